"""One loader for both kinds of data: samples in memory, and samples that workers read."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, IGNORED, Batch
from distillab.data.seeded import Stream, random_bits


@dataclass(eq=False)
class Order:
    """Which samples make up each batch of an epoch: a pure function of (seed, epoch), and this rank's share of it.

    With `views_per_decode` K that many batches in turn show the same samples in other views, as data echoing does
    (arXiv 1907.05550). Over K epochs every sample is shown in the views that K epochs of the usual order have, once each.

    Raises UserError where a shuffled batch leaves a rank without a sample.
    """

    size: int  # samples in the split
    batch_size: int  # of the global batch, over all ranks
    seed: int | None = None  # None keeps the split's own order
    _: KW_ONLY
    cycle: int | None = None  # view numbers start again at 0 after so many; None never
    views_per_decode: int = 1
    rank: int = 0  # takes slice `rank` of `world` of every global batch
    world: int = 1
    labels: Tensor | None = (
        None  # (size,): draw every class as often, its samples with replacement; None: each sample once
    )
    epoch = start = 0

    def __post_init__(self) -> None:
        if self.seed is not None and self.batch_size < self.world:
            few = f"a global batch of {self.batch_size} leaves some of {self.world} devices without a sample"
            raise UserError(f"{few}: recipe.batch_size={2 * self.world}")

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; its first batch is next, unless a loaded state already stands in this epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def _number(self, view: int) -> int:
        """The number of a view of this group of epochs; `AS_STORED` where nothing is shuffled."""
        if self.seed is None:
            return AS_STORED
        number = self._group * self.views_per_decode + view
        return number % self.cycle if self.cycle else number

    @property
    def _group(self) -> int:
        """The number of this group of `views_per_decode` epochs, which share one order."""
        return self.epoch // self.views_per_decode

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        # A rest too small for BatchNorm on every rank joins the batch before it.
        return full if full and rest < 2 * self.world else full + 1

    def batches(self) -> Iterator[Tensor]:
        """This rank's sample indices (n,) of each batch from `start` on."""
        return (index for index, numbers in self.blocks() for _ in numbers)

    def blocks(self) -> Iterator[tuple[Tensor, list[int]]]:
        """The batches from `start` on; those in turn that show the same samples (n,) are one block of many view numbers."""
        index = torch.arange(self.size)
        if self.labels is not None:
            index = self._evenly(index)
        elif self.seed is not None:
            index = index[random_bits(self.seed, self._group, index, Stream.ORDER).argsort(stable=True)]
        # `start` is read now, not at the first next(): the loader moves on in between.
        places = [self._place(batch) for batch in range(self.start, len(self))]
        return (
            (self._share(index, chunk), [self._number(view) for _, view in block])
            for chunk, block in groupby(places, key=itemgetter(0))
        )

    __iter__ = blocks

    def _place(self, batch: int) -> tuple[int, int]:
        """Which part of the order a batch shows, and in which of the group's views."""
        epoch, last = self.epoch % self.views_per_decode, len(self) - 1
        if batch == last:  # of another size than the others: one view in each epoch, so that all epochs are alike
            return last, epoch
        return divmod(epoch * last + batch, self.views_per_decode)

    def _evenly(self, place: Tensor) -> Tensor:
        """The sample at each place (size,) of the epoch: one of a class, of which each is as likely."""
        classes, counts = self.labels.unique(return_counts=True)
        which, member = (
            (random_bits(self.seed, self._group, place, stream) & (2**63 - 1))
            for stream in (Stream.CLASS, Stream.MEMBER)
        )
        which = which % len(classes)
        return self.labels.argsort(stable=True)[(counts.cumsum(0) - counts)[which] + member % counts[which]]

    def _share(self, index: Tensor, batch: int) -> Tensor:
        last = batch == len(self) - 1
        whole = index[batch * self.batch_size : None if last else (batch + 1) * self.batch_size]
        first, end = (len(whole) * rank // self.world for rank in (self.rank, self.rank + 1))
        return whole[first:end]


def limited(batches: int, limit: float | None) -> int:
    """So many batches of an epoch as Lightning takes by a limit: a number, or a share below 1."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(limit * batches)


class Source(Protocol):
    """The samples of a split in memory.

    Where workers read them, it is a torch `Dataset` instead, with keys (sample index, view number) and a `collate`.
    """

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, number: int) -> Batch:
        """The samples `index` (n,), in their views of a number."""


@dataclass(eq=False)
class Blocks(Dataset):
    """The batches of a block, from samples that workers read: those that show the same samples."""

    source: Dataset

    def __getitem__(self, block: tuple[Tensor, list[int]]) -> list[Batch]:
        index, numbers = block
        # All views of a sample in turn, so that a source can decode it once.
        samples = [[self.source[sample, number] for number in numbers] for sample in index.tolist()]
        return [self.source.collate(list(batch)) for batch in zip(*samples, strict=True)]


def as_they_are(batches: list[Batch]) -> list[Batch]:
    """What `Blocks` gives needs no collation."""
    return batches


class Loader:
    """Batches of one split, epoch after epoch, resumable after any batch.

    Lightning loads the state, then calls `sampler.set_epoch`, then asks for the next batch; the first batch is made
    only then, so it is the right one. A state counts the batches handed out: save it where all of them are trained.

    Each of the `accumulate` batches of an optimiser step tells how many labels all of them have; `limit` is Lightning's
    of an epoch's batches: a number, or a share below 1. `order` is for `Order`.
    """

    def __init__(
        self,
        source: Source | Dataset,
        batch_size: int,
        *,
        workers: int = 0,
        accumulate: int = 1,
        limit: float = 1.0,
        **order: Any,
    ) -> None:
        self.source, self.accumulate, self.limit = source, accumulate, limit
        self.sampler = Order(len(source), batch_size, **order)
        self.batch_sampler = None  # Lightning asks whatever has a sampler for it
        self._handed_out = (0, 0)  # epoch, batches
        self._reader: DataLoader | None = None
        if isinstance(source, Dataset):
            processes = {"num_workers": workers, "persistent_workers": workers > 0}
            if workers and self.sampler.views_per_decode > 1:
                processes["prefetch_factor"] = 1  # a block is several batches
            # Without a generator of its own each epoch would draw a seed from the training's.
            how = {"sampler": self.sampler, "collate_fn": as_they_are, "generator": torch.Generator()}
            self._reader = DataLoader(Blocks(source), batch_size=None, **how, **processes)

    def __len__(self) -> int:
        """Batches in a whole epoch, also after a resume."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.sampler.epoch, self.sampler.start
        if self._reader is not None:
            batches = chain.from_iterable(iter(self._reader))
        else:
            batches = (
                self.source.batch(index, number) for index, numbers in self.sampler.blocks() for number in numbers
            )
        self.sampler.start = 0
        try:
            for count, batch in enumerate(self._counted(batches, start), start + 1):
                self._handed_out = (epoch, count)
                yield batch
        except UserError as error:
            # A worker's error arrives with its traceback in the text; the last line is the message.
            message = str(error).strip().splitlines()[-1]
            raise UserError(message.removeprefix(f"{UserError.__module__}.UserError: ")) from None

    def repeated(self) -> Iterator[Batch]:
        """The epoch's first batch, loaded again and again without end; what workers read is read once."""
        if self._reader is not None:
            batch = next(iter(self))
            while True:
                yield batch
        index, numbers = next(self.sampler.blocks())
        while True:
            yield self.source.batch(index, numbers[0])

    def _counted(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        """The batches, each with the number of labels in the optimiser step that it is part of."""
        if self.accumulate == 1:
            yield from batches
            return
        used = limited(len(self), self.limit)
        while step := list(islice(batches, min(self.accumulate - start % self.accumulate, max(used - start, 0)))):
            start += len(step)
            rows = sum(batch.rows for batch in step)
            labels = torch.cat([batch.labels[batch.labels != IGNORED] for batch in step])
            pairs = None if step[0].paired is None else sum(batch.paired for batch in step)
            yield from (replace(batch, step_rows=rows, step_labels=labels, step_pairs=pairs) for batch in step)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and how many of its batches were handed out."""
        epoch, batches = self._handed_out
        return {"epoch": self.sampler.epoch, "batches": batches if epoch == self.sampler.epoch else self.sampler.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch of `state_dict`."""
        self.sampler.epoch, self.sampler.start = self._handed_out = state["epoch"], state["batches"]
