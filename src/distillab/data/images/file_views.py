"""Image files that are too many for memory: read, transformed and augmented anew for every view, by workers."""

import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from distillab.core.errors import UserError
from distillab.data.images.augment import Augment
from distillab.data.images.decode import fit_square, in_threads, read_image
from distillab.data.images.image_batch import ImageBatch
from distillab.data.images.mix import partners
from distillab.data.seeded import Stream, random_bits

SEARCH = 30.0  # seconds, at most, for other files that cannot be used either


class Sample(NamedTuple):
    """The views of one file, and of the file that is to be mixed in."""

    views: list[Tensor]  # (C, image_size, image_size) uint8 each, the weak one first
    label: Tensor
    index: int
    number: int
    partner: Self | None = None


@dataclass(eq=False)
class FileViews(Dataset):
    """N image files, read and augmented anew for each view. A key is (sample index, number of its views).

    The crop and the flip of a view are drawn from torch's generator. The UserError for a file that cannot be used names the
    others too, among `every` file of the data, as far as they are found in half a minute.
    """

    files: Sequence[str]
    labels: Tensor  # (N,) int64
    channels: int  # 1 or 3
    image_size: int
    _: KW_ONLY
    resize: int | None = None  # see `fit_square`
    augment: Augment = field(default_factory=Augment)
    num_views: int = 1  # 2 adds the strong view
    mixes: bool = False  # whether each sample comes with the one that is to be mixed in
    views_per_decode: int = 1  # keys in turn that ask for views of the same sample
    every: Sequence[str] = ()  # the files of all splits; empty: `files`

    def __post_init__(self) -> None:
        self._decoded: dict[int, Image.Image] = {}  # the last two images, a sample and its partner
        self.resized_crop, self.steps = None, []
        if self.augment.resized_crop:
            self.resized_crop = v2.RandomResizedCrop(self.image_size, scale=(self.augment.resized_crop, 1.0))
        if self.augment.crop:
            self.steps.append(v2.RandomCrop(self.image_size, padding=self.augment.crop))
        if self.augment.flip:
            self.steps.append(v2.RandomHorizontalFlip())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, number = key
        with torch.random.fork_rng(devices=[]):  # without workers the generator is the training's own
            sample = self._sample(index, number, self.num_views)
            if not self.mixes:
                return sample
            # All views of one decoding are mixed with those of one other, so that it is decoded once as well.
            first = number - number % self.views_per_decode
            other = int(partners(self.augment.view_seed, first, torch.tensor(index), len(self)))
            return sample._replace(partner=self._sample(other, number, 1))

    def _sample(self, index: int, number: int, num_views: int) -> Sample:
        try:
            image = self._image(index)
            views = [self._view(image, index, number, Stream.SAMPLE)]
        except UserError as error:
            raise self._with_others(self.files[index], error) from error
        if num_views == 2:
            strong = self._view(image, index, number, Stream.SAMPLE + Stream.STRONG)
            views.append(self.augment.strengthen(strong[None], torch.tensor([index]), number)[0])
        return Sample(views, self.labels[index], index, number)

    def _with_others(self, path: str, refusal: UserError) -> UserError:
        """The refusal of a file, and of the others that would be refused later, one attempt after another."""
        end, passed_over = time.monotonic() + SEARCH, []

        def look(path: str) -> None:
            if time.monotonic() > end:
                passed_over.append(path)
                return
            image = read_image(path, self.channels)
            if self.resized_crop is None:
                fit_square(image, path, self.image_size, self.resize)

        try:
            for _ in in_threads([path, *(other for other in self.every or self.files if other != path)], look):
                pass
        except UserError as error:
            more = f"; {len(passed_over):,} were not looked at in {SEARCH:g} s" if passed_over else ""
            return UserError(f"{error}{more}")
        return refusal  # none was reached in time, or it can be used by now

    def _image(self, index: int) -> Image.Image:
        if self.views_per_decode == 1:
            return read_image(self.files[index], self.channels)
        if index not in self._decoded:
            last = list(self._decoded.items())[-1:]
            self._decoded = dict(last) | {index: read_image(self.files[index], self.channels)}
        return self._decoded[index]

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

    def collate(self, samples: list[Sample]) -> ImageBatch:
        """Stack samples, and their partners, into one batch."""
        batch = _stacked(samples)
        if self.mixes:
            batch.partners = _stacked([sample.partner for sample in samples])
        return batch


def _stacked(samples: list[Sample]) -> ImageBatch:
    views = [torch.stack(view) for view in zip(*(sample.views for sample in samples), strict=True)]
    labels, index = (
        torch.stack([sample.label for sample in samples]),
        torch.tensor([sample.index for sample in samples]),
    )
    return ImageBatch.of(views, labels, index, samples[0].number)
