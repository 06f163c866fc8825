"""One loader for both kinds of data: decoded tensors, and files read by workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, Batch
from distillab.data.images.file_views import FileViews, collate
from distillab.data.images.image_batch import ImageBatch
from distillab.data.images.views import Stream, random_bits


class Order:
    """Which samples make up each batch of an epoch: a pure function of (seed, epoch), and this rank's share of it.

    Args:
        size: samples in the split.
        batch_size: of the global batch, over all ranks.
        seed: of the order; None keeps the split's own order.
        cycle: view numbers start again at 0 after so many; None never.
        rank: takes slice `rank` of `world` of every global batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int | None = None,
        cycle: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.size, self.batch_size, self.seed, self.cycle = size, batch_size, seed, cycle
        self.rank, self.world = rank, world
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; its first batch is next, unless a loaded state already stands in this epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    @property
    def number(self) -> int:
        """The number of the epoch's views, which is the epoch; where nothing is shuffled the samples are as stored."""
        if self.seed is None:
            return AS_STORED
        return self.epoch % self.cycle if self.cycle else self.epoch

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        # A rest too small for BatchNorm on every rank joins the batch before it.
        return full if full and rest < 2 * self.world else full + 1

    def batches(self) -> Iterator[Tensor]:
        """This rank's sample indices (n,) of each batch from `start` on."""
        index = torch.arange(self.size)
        if self.seed is not None:
            index = index[random_bits(self.seed, self.epoch, index, Stream.ORDER).argsort(stable=True)]
        return self._slices(index, self.start)

    def _slices(self, index: Tensor, start: int) -> Iterator[Tensor]:
        for batch in range(start, len(self)):
            last = batch == len(self) - 1
            whole = index[batch * self.batch_size : None if last else (batch + 1) * self.batch_size]
            first, end = (len(whole) * rank // self.world for rank in (self.rank, self.rank + 1))
            yield whole[first:end]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Each batch as (index, view number) pairs, the keys of a `FileViews`."""
        # Epoch and start are read now, not at the first next(): the loader moves on in between.
        batches, number = self.batches(), self.number
        return ([(sample, number) for sample in batch.tolist()] for batch in batches)


class TensorViews:
    """Decoded images in memory; their augmentation is left to the device.

    Args:
        images: (M, C, H, W) uint8.
        labels: (M,) int64.
        rows: (N,) int64, where each of the split's samples lies in `images`.
        augmented: False where an augmentation is still to come.
    """

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor, augmented: bool) -> None:
        self.images, self.labels, self.rows, self.augmented = images, labels, rows, augmented

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, number: int) -> ImageBatch:
        """The samples `index` (n,) as they are stored, in one view."""
        rows = self.rows[index]
        batch = ImageBatch.of([self.images[rows]], self.labels[rows], index, number)
        batch.augmented = self.augmented
        return batch


class Loader:
    """Batches of one split, epoch after epoch, resumable after any batch.

    Lightning loads the state, then calls `sampler.set_epoch`, then asks for the next batch; the first batch is made
    only then, so it is the right one. A state counts the batches handed out: save it where all of them are trained.

    Args:
        source: `TensorViews`, or `FileViews` for the path with workers.
        batch_size, seed, cycle, rank, world: see `Order`.
        workers: processes that read files.
        accumulate: batches of an optimiser step; each tells how many labels all of them have.

    Raises:
        UserError: the global batch has fewer samples than there are ranks.
    """

    def __init__(
        self,
        source: TensorViews | FileViews,
        batch_size: int,
        seed: int | None = None,
        cycle: int | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        accumulate: int = 1,
    ) -> None:
        if seed is not None and batch_size < world:
            raise UserError(
                f"a global batch of {batch_size} leaves some of {world} devices without a sample: "
                f"recipe.batch_size={2 * world}"
            )
        self.source, self.accumulate = source, accumulate
        self.sampler = Order(len(source), batch_size, seed, cycle, rank, world)
        self.batch_sampler = None  # Lightning asks whatever has a sampler for it
        self._handed_out = (0, 0)  # epoch, batches
        self._files: DataLoader | None = None
        if isinstance(source, FileViews):
            self._files = DataLoader(
                source,
                batch_sampler=self.sampler,
                num_workers=workers,
                persistent_workers=workers > 0,
                collate_fn=collate,
                generator=torch.Generator(),  # else each epoch draws a seed from the training's generator
            )

    def __len__(self) -> int:
        """Batches in a whole epoch, also after a resume."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        order = self.sampler
        epoch, start = order.epoch, order.start
        batches = self._read_files() if self._files is not None else self._index_tensors()
        order.start = 0
        for count, batch in enumerate(self._counted(batches, start), start + 1):
            self._handed_out = (epoch, count)
            yield batch

    def _counted(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        """The batches, each with the number of labels in the optimiser step that it is part of."""
        if self.accumulate == 1:
            yield from batches
            return
        while step := list(islice(batches, self.accumulate - start % self.accumulate)):
            start += len(step)
            rows = sum(batch.rows for batch in step)
            yield from (replace(batch, step_rows=rows) for batch in step)

    def _index_tensors(self) -> Iterator[Batch]:
        number = self.sampler.number
        return (self.source.batch(index, number) for index in self.sampler.batches())

    def _read_files(self) -> Iterator[Batch]:
        batches = iter(self._files)

        def read() -> Iterator[Batch]:
            try:
                yield from batches
            except UserError as error:
                # A worker's error arrives with its traceback in the text; the last line is the message.
                raise UserError(
                    str(error).strip().splitlines()[-1].removeprefix("distillab.core.errors.UserError: ")
                ) from None

        return read()

    def state_dict(self) -> dict[str, Any]:
        """The epoch and how many of its batches were handed out."""
        epoch, batches = self._handed_out
        return {
            "epoch": self.sampler.epoch,
            "batches": batches if epoch == self.sampler.epoch else self.sampler.start,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch of `state_dict`."""
        self.sampler.epoch, self.sampler.start = self._handed_out = state["epoch"], state["batches"]
