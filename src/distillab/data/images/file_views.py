"""Image files that are too many for memory: read, transformed and augmented anew for every view, by workers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from distillab.data.images.augment import Augment
from distillab.data.images.decode import fit_square, read_image
from distillab.data.images.image_batch import ImageBatch
from distillab.data.seeded import Stream, random_bits


class FileTransform:
    """From a decoded image to a uint8 tensor (C, image_size, image_size), see `fit_square`.

    The crops and the flip of `augment` are drawn from torch's generator.
    """

    def __init__(self, augment: Augment, image_size: int, resize: int | None) -> None:
        self.image_size, self.resize, self.resized_crop = image_size, resize, None
        self.steps: list[Callable[[Tensor], Tensor]] = []
        if augment.resized_crop:
            self.resized_crop = v2.RandomResizedCrop(image_size, scale=(augment.resized_crop, 1.0))
        if augment.crop:
            self.steps.append(v2.RandomCrop(image_size, padding=augment.crop))
        if augment.flip:
            self.steps.append(v2.RandomHorizontalFlip())

    def __call__(self, image: Image.Image, path: str) -> Tensor:
        """Transform one image; `path` is for the message of a UserError."""
        if self.resized_crop is not None:
            view = v2.functional.pil_to_tensor(self.resized_crop(image))
        else:
            view = torch.from_numpy(np.array(fit_square(image, path, self.image_size, self.resize), order="C"))
        for step in self.steps:
            view = step(view)
        return view


@dataclass(eq=False)
class FileViews(Dataset):
    """N image files, read and transformed anew for each view. A key is (sample index, number of its views).

    `transform` makes of an image and its path a uint8 tensor (C, H, W), and draws from the global generators; `strengthen`
    makes the strong view, as `Augment.strengthen` does, and None leaves one view.
    """

    files: Sequence[str]
    labels: Tensor  # (N,) int64
    channels: int  # 1 or 3
    transform: Callable[[Image.Image, str], Tensor]
    _: KW_ONLY
    view_seed: int = 0
    strengthen: Callable[[Tensor, Tensor, int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> tuple[list[Tensor], Tensor, int, int]:
        index, number = key
        image = read_image(self.files[index], self.channels)
        with isolate_rng(include_cuda=False):  # without workers the generators are the training's own
            views = [self._view(image, index, number, Stream.SAMPLE)]
            if self.strengthen is not None:
                strong = self._view(image, index, number, Stream.SAMPLE + Stream.STRONG)
                views.append(self.strengthen(strong[None], torch.tensor([index]), number)[0])
        return views, self.labels[index], index, number

    def _view(self, image: Image.Image, index: int, number: int, stream: int) -> Tensor:
        seed = int(random_bits(self.view_seed, number, torch.tensor(index), stream)) & (2**63 - 1)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerator's too
        np.random.seed(seed % 2**32)
        random.seed(seed)
        return self.transform(image, self.files[index])

    def collate(self, samples: list[tuple[list[Tensor], Tensor, int, int]]) -> ImageBatch:
        """Stack samples into one batch."""
        views, labels, index, numbers = zip(*samples, strict=True)
        stacked = [torch.stack(view) for view in zip(*views, strict=True)]
        return ImageBatch.of(stacked, torch.stack(labels), torch.tensor(index), numbers[0])
