"""Image files that are too many for memory: read, transformed and augmented anew for every view, by workers."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from distillab.data.images.augment import Augment
from distillab.data.images.decode import fit_square, read_image
from distillab.data.images.image_batch import ImageBatch
from distillab.data.seeded import Stream, random_bits


@dataclass(eq=False)
class FileViews(Dataset):
    """N image files, read and augmented anew for each view. A key is (sample index, number of its views).

    A view is a uint8 tensor (C, image_size, image_size), whose crop and flip are drawn from torch's generator.
    """

    files: Sequence[str]
    labels: Tensor  # (N,) int64
    channels: int  # 1 or 3
    image_size: int
    _: KW_ONLY
    resize: int | None = None  # see `fit_square`
    augment: Augment = field(default_factory=Augment)
    num_views: int = 1  # 2 adds the strong view

    def __post_init__(self) -> None:
        self.resized_crop, self.steps = None, []
        if self.augment.resized_crop:
            self.resized_crop = v2.RandomResizedCrop(self.image_size, scale=(self.augment.resized_crop, 1.0))
        if self.augment.crop:
            self.steps.append(v2.RandomCrop(self.image_size, padding=self.augment.crop))
        if self.augment.flip:
            self.steps.append(v2.RandomHorizontalFlip())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> tuple[list[Tensor], Tensor, int, int]:
        index, number = key
        image = read_image(self.files[index], self.channels)
        with torch.random.fork_rng(devices=[]):  # without workers the generator is the training's own
            views = [self._view(image, index, number, Stream.SAMPLE)]
            if self.num_views == 2:
                strong = self._view(image, index, number, Stream.SAMPLE + Stream.STRONG)
                views.append(self.augment.strengthen(strong[None], torch.tensor([index]), number)[0])
        return views, self.labels[index], index, number

    def _view(self, image: Image.Image, index: int, number: int, stream: int) -> Tensor:
        seed = int(random_bits(self.augment.view_seed, number, torch.tensor(index), stream)) & (2**63 - 1)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerator's too
        if self.resized_crop is not None:
            view = v2.functional.pil_to_tensor(self.resized_crop(image))
        else:
            square = fit_square(image, self.files[index], self.image_size, self.resize)
            view = torch.from_numpy(np.array(square, order="C"))
        for step in self.steps:
            view = step(view)
        return view

    def collate(self, samples: list[tuple[list[Tensor], Tensor, int, int]]) -> ImageBatch:
        """Stack samples into one batch."""
        views, labels, index, numbers = zip(*samples, strict=True)
        stacked = [torch.stack(view) for view in zip(*views, strict=True)]
        return ImageBatch.of(stacked, torch.stack(labels), torch.tensor(index), numbers[0])
