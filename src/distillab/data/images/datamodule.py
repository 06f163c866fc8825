"""Image data for one experiment: pixels, decoded or in files, their augmentation and their statistics."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.data.collection import Collection, DataInfo
from distillab.data.images.augment import Augment
from distillab.data.images.file_views import FileViews
from distillab.data.images.image_batch import ImageBatch, TensorViews
from distillab.data.images.mix import MixedViews, mixed
from distillab.data.module import DataModule

MEASURED = 10_000  # decoded images
MEASURED_FILES = 500  # they are read at every start

Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImageInfo(DataInfo):
    """What a model must know of its images: square, of `channels`, values in [0, 1], and their mean and std there."""

    channels: int
    image_size: int
    mean: Numbers
    std: Numbers


@dataclass(frozen=True, kw_only=True)
class ImageCollection(Collection):
    """All images of a dataset, either decoded or as files."""

    channels: int  # 1 or 3
    image_size: int  # height and width
    images: Tensor | None = None  # (M, C, H, W) uint8
    files: list[str] | None = None  # M paths


class ImageData(DataModule):
    """A data module of images; subclasses say where they come from.

    conf/data/folder.yaml says what each argument is for. Decoded images are kept in `cache_dir`, under data/; `mean` and
    `std`, per channel in [0, 1], are measured on the training images before `samples` where they are None.
    """

    reads_files: ClassVar[bool] = False  # whether views may be made from image files
    resize: int | None = None  # shorter side of images from files before the centre crop
    info: ImageInfo
    collection: ImageCollection

    def __init__(
        self,
        name: str,
        cache_dir: str | os.PathLike[str],
        *,
        augment: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(name, **common)
        self.cache_dir, self.mean, self.std = cache_dir, mean, std
        self.augment = Augment.of(augment, view_seed=self.view_seed)
        self.mixes = self.augment.mixup > 0 or self.augment.cutmix > 0
        if (mean is None) != (std is None):
            raise UserError("data.mean and data.std go together: give both, or data.mean=null data.std=null")
        if self.augment.resized_crop and not self.reads_files:
            raise UserError(f"data={name} is decoded before it is cropped: data.augment.resized_crop=0")

    def _describe(self) -> ImageInfo:
        data, crop, size = self.collection, self.augment.crop, self.collection.image_size
        if crop > size:
            large = f"data.augment.crop={crop} is larger than the images ({size} pixels)"
            raise UserError(f"{large}: data.augment.crop={size // 8}")
        given = self._measured() if self.mean is None else (self.mean, self.std)
        mean, std = (tuple(map(float, values)) for values in given)
        if not len(mean) == len(std) == data.channels:
            found = f"{len(mean)} and {len(std)} numbers for {data.channels} channels"
            raise UserError(f"data.mean and data.std have {found}: data.mean=null data.std=null")
        return ImageInfo(self.name, data.classes, channels=data.channels, image_size=size, mean=mean, std=std)

    def _measured(self) -> tuple[Numbers, Numbers]:
        if self.collection.images is not None:
            return image_statistics(self.collection.images.numpy()[evenly_spaced(self.rows["all"], MEASURED)])
        files = self._source("all", training=False)
        some = evenly_spaced(np.arange(len(files)), MEASURED_FILES)
        return image_statistics(np.stack([files[int(index), 0].views[0].numpy() for index in some]))

    def _numbers(self) -> dict[str, Any]:
        numbers = {name: getattr(self.info, name) for name in ("channels", "image_size", "mean", "std")}
        on_files = self.collection.images is None
        return numbers | {"on_files": on_files, "augment": self.augment.numbers(self.num_views)}

    def _check_views(self, num_views: int) -> None:
        if num_views not in (1, 2):
            raise UserError(f"there are a weak and a strong view of each sample, and {num_views} are asked for")
        if num_views == 2 and self.augment.strong is None:
            raise UserError(
                f"the strategy needs a strong view, and data={self.name} has it switched off: "
                "'data.augment.strong={operations:2,magnitude:null,cutout:0.5}'"
            )

    def _source(self, split: str, training: bool) -> TensorViews | FileViews:
        collection, rows, labels = self.collection, self.rows[split], self._labels_of(split)
        mixes = training and self.mixes
        if collection.images is not None:
            stored = collection.images, labels, torch.from_numpy(rows)
            return MixedViews(*stored, view_seed=self.view_seed) if mixes else TensorViews(*stored, not training)
        files, shape = [collection.files[row] for row in rows], (collection.channels, collection.image_size)
        views = {"augment": self.augment, "num_views": self.num_views} if training else {}
        views |= {"mixes": mixes, "views_per_decode": self.views_per_decode}
        return FileViews(files, labels[rows], *shape, resize=self.resize, every=collection.files, **views)

    def on_after_batch_transfer(self, batch: ImageBatch, dataloader_idx: int = 0) -> Batch:
        """Augment on the device what is not augmented yet, bring uint8 views to float32 in [0, 1], and mix samples."""
        views, labels, number = batch.pixels, batch.labels, batch.view_number
        if not batch.augmented:
            views = [self.augment(views[0], batch.index, number, view) for view in range(self.num_views)]
        views = [view.float().div_(255) if view.dtype == torch.uint8 else view for view in views]
        if batch.partners is not None:
            views, labels = mixed(views, batch, self.augment, len(self.info.classes))
        inputs = [{"pixels": view} for view in views]
        return replace(batch, inputs=inputs, targets={"labels": labels}, augmented=True, partners=None)


def image_statistics(images: np.ndarray) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation per channel, in [0, 1], of uint8 images (N, C, H, W)."""
    levels = np.arange(256) / 255
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.swapaxes(0, 1)])
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 1e-12))  # a constant channel must not divide by zero
    return tuple(mean.round(6).tolist()), tuple(std.round(6).tolist())


def evenly_spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, evenly spaced: enough for a mean, the same ones every time."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
