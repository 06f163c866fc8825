"""Image data for one experiment: its splits, and the loaders of a fit."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning import LightningDataModule

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.data.collection import Collection, DataInfo, fingerprint
from distillab.data.images import statistics
from distillab.data.images.augment import Augment
from distillab.data.images.file_views import FileTransform, FileViews
from distillab.data.images.image_batch import ImageBatch
from distillab.data.images.mix import MixedViews, mixed
from distillab.data.labels import Labels, check_share, check_source
from distillab.data.loader import Loader, TensorViews
from distillab.data.splits import carve, check_split, limit

EVALUATION_BATCH = 256  # constant, so that an accuracy does not depend on the batch size of a fit


class ImageData(Labels, LightningDataModule):
    """Train, validation and test images with seeded splits, order and views; subclasses say where they come from.

    Args:
        name: of the data, for tables.
        cache_dir: keeps decoded images, under data/.
        split_seed: of the validation split, of `samples` and of `labelled`.
        view_seed: of the augmentation.
        validation: fraction of the training images, stratified; 0 leaves no validation loader.
        samples: training images kept after the validation was carved off, stratified; None keeps all.
        labels: `all`; `teacher` hides the label of every training image.
        labelled: share of the training images whose label is known, stratified.
        views: the number of the views starts again at 0 after so many epochs; None never repeats one.
        augment: see `distillab.data.images.augment.Augment`.
        mean, std: per channel in [0, 1]; None measures them on the training images (before `samples`).

    Raises:
        UserError: a number out of range; in `prepare`, data that is absent or broken.
    """

    reads_files: ClassVar[bool] = False  # whether views may be made from image files

    def __init__(
        self,
        name: str,
        cache_dir: str | os.PathLike[str],
        split_seed: int = 0,
        view_seed: int = 0,
        validation: float = 0.1,
        samples: int | None = None,
        labels: str = "all",
        labelled: float = 1.0,
        views: int | None = None,
        augment: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.cache_dir = name, cache_dir
        self.split_seed, self.view_seed = split_seed, view_seed
        self.validation, self.samples, self.cycle = validation, samples, views
        self.label_source, self.labelled = check_source(labels), check_share(labelled)
        self.augment = Augment.of(augment, view_seed)
        self.mixes = self.augment.mixes
        self.mean, self.std = mean, std
        self.batch_size, self.seed, self.num_views, self.watch, self.accumulate = None, 0, 1, "validation", 1
        self._collection: Collection | None = None
        check_split(validation, split_seed)
        if not 0 <= view_seed < 2**63:
            raise UserError(f"data.view_seed is from 0 to 2**63 - 1, not {view_seed}: data.view_seed=0")
        if views is not None and views < 1:
            raise UserError(f"data.views is a number of views from 1, or null, not {views}: data.views=8")
        if (mean is None) != (std is None):
            raise UserError("data.mean and data.std go together: give both, or data.mean=null data.std=null")
        if self.augment.resized_crop and not self.reads_files:
            raise UserError(f"data={name} is decoded before it is cropped: data.augment.resized_crop=0")

    def _collect(self) -> Collection:
        raise NotImplementedError

    def prepare(self) -> None:
        """Find, decode and split the images; a second call does nothing. Safe in several processes at once."""
        if self._collection is not None:
            return
        collection = self._collect()
        train, validation = collection.train, collection.validation
        if not self.validation:
            validation = np.empty(0, dtype=np.int64)
        elif validation is None:
            mend = "add images, or data.validation=0"
            train, validation = carve(
                train, collection.labels, collection.classes, self.validation, (self.split_seed, 0), mend
            )
        self._collection, self._labels = collection, torch.from_numpy(collection.labels)
        self._rows = {"all": train, "train": train, "validation": validation, "test": collection.test}
        self.augment.check_images(self.name, collection.image_size, decoded=collection.images is not None)
        self._info = DataInfo(
            self.name, collection.classes, collection.channels, collection.image_size, *self._statistics()
        )
        self._limit()

    def setup(self, stage: str) -> None:
        """Lightning's hook for a plain Trainer."""
        self.prepare()

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.mean is not None:
            return statistics.given(self.mean, self.std, self._collection.channels)
        files = self._views("all", None) if self._collection.images is None else None
        return statistics.measured(self._collection, self._rows["all"], files)

    def _limit(self) -> None:
        """Choose the training images from all that `samples` may choose from."""
        rows = self._rows["all"]
        if self.samples is not None:
            seed = (self.split_seed, 1)
            rows = limit(rows, self._collection.labels, len(self._info.classes), self.samples, seed, self.name)
        self._rows = self._rows | {"train": rows}
        self._hide()

    def configure(
        self, batch_size: int, seed: int, num_views: int = 1, watch: str = "validation", accumulate: int = 1
    ) -> Self:
        """The same data for one fit; tensors are shared.

        Args:
            batch_size: of the global batch.
            seed: of the order of the training images.
            num_views: of each sample in a training batch: 1 is a weak one, 2 are a weak and a strong one.
            watch: the split that is looked at after every epoch.
            accumulate: batches of an optimiser step.

        Raises:
            UserError: the batch size is not between 1 and the number of training images, or there is no such view.
        """
        if num_views not in (1, 2):
            raise UserError(f"there are a weak and a strong view of each sample, and {num_views} are asked for")
        if num_views == 2 and self.augment.strong is None:
            raise UserError(
                f"the strategy needs a strong view, and data={self.name} has it switched off: "
                "'data.augment.strong={operations:2,magnitude:10,cutout:0.5}'"
            )
        clone = self._clone()
        clone.batch_size, clone.seed, clone.accumulate = batch_size, seed, accumulate
        clone.num_views, clone.watch = num_views, watch
        clone._check_batch_size()
        return clone

    def with_samples(self, samples: int | None) -> Self:
        """The same data with another number of training images; validation and test stay. Raises UserError."""
        clone = self._clone()
        clone.samples = samples
        clone._limit()
        clone._check_batch_size()
        return clone

    def _clone(self) -> Self:
        self.prepare()
        clone = copy.copy(self)
        clone.trainer = None
        return clone

    def _check_batch_size(self) -> None:
        count = self.sizes["train"]
        if self.batch_size is not None and not 1 <= self.batch_size <= count:
            raise UserError(
                f"a batch of {self.batch_size} cannot be filled: from 1 to {count} (all training images "
                f"of {self.name}) are allowed, recipe.batch_size={min(64, count)}"
            )

    @property
    def info(self) -> DataInfo:
        """What a model must know of its data."""
        self.prepare()
        return self._info

    @property
    def sizes(self) -> dict[str, int]:
        """Images in train, validation and test; `labelled` ones of train where not all are."""
        self.prepare()
        sizes = {split: len(self._rows[split]) for split in ("train", "validation", "test")}
        return sizes | ({"labelled": self.labelled_images} if self.hides_labels else {})

    @property
    def training_labels(self) -> torch.Tensor:
        """(n,) int64: the label of every training image, by its index; -1 where it is unknown."""
        self.prepare()
        return self._labels_of("train")[self._rows["train"]]

    @property
    def fingerprint(self) -> str:
        """Hash of all that a trained teacher owes to its data: pixels, labels, splits, augmentation, normalisation."""
        spec = self.info
        rows = {split: self._rows[split] for split in ("train", "validation", "test")}
        numbers = {"augment": self.augment.numbers(self.num_views), "views": self.cycle}
        return fingerprint(self._collection, spec, rows, numbers)

    @property
    def files_stamp(self) -> str | None:
        """What else the pixels of images that stay in files may depend on; None where they were decoded."""
        self.prepare()
        return self._collection.files_stamp

    def _views(self, split: str, augment: Augment | None) -> TensorViews | FileViews:
        collection, rows, labels = self._collection, self._rows[split], self._labels_of(split)
        if collection.images is not None:
            stored = collection.images, labels, torch.from_numpy(rows)
            if augment is not None and augment.mixes:
                return MixedViews(*stored, self.view_seed)
            return TensorViews(*stored, augmented=augment is None)
        transform = FileTransform(augment, collection.image_size, self._resize())
        files = [collection.files[row] for row in rows]
        strengthen = augment.strengthen if augment is not None and self.num_views == 2 else None
        return FileViews(files, labels[rows], collection.channels, transform, self.view_seed, strengthen)

    def _resize(self) -> int | None:
        return None

    def _loader(self, split: str, batch_size: int, **order: Any) -> Loader:
        self.prepare()
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        views = self._views(split, self.augment if order else None)
        workers = getattr(self, "workers", 0)
        return Loader(views, batch_size, rank=rank, world=world, workers=workers, **order)

    def train_dataloader(self) -> Loader:
        """Shuffled batches of the fit that `configure` described."""
        if self.batch_size is None:
            raise RuntimeError("call configure(batch_size, seed) first and train on what it returns")
        return self._loader("train", self.batch_size, seed=self.seed, cycle=self.cycle, accumulate=self.accumulate)

    def val_dataloader(self) -> Loader | list[Loader]:
        """The watched images in order, or [] where there are none."""
        return self.evaluation_dataloader(self.watch) if self.sizes[self.watch] else []

    def test_dataloader(self) -> Loader:
        """The test images in order."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> Loader:
        """The images of a split in order, as they are."""
        return self._loader(split, EVALUATION_BATCH)

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
