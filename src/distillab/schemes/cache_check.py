"""Runs the teacher again on a share of what its cache holds, and compares."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import torch
from torch.utils.data import Dataset

from distillab.core.configuration import RunConfig
from distillab.data.batch import Batch
from distillab.data.loader import Blocks
from distillab.data.module import DataModule
from distillab.tasks.base import Task
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.fit import make_trainer

# A stored number may differ by so much, over the larger of 1 and itself: one rounding to half precision is 1e-3 of it, and
# passes in half precision that share a batch with other samples differ by more.
TOLERANCE, TOLERANCE_OF_HALF = 2e-3, 5e-2


@dataclass
class Compared:
    """What was compared, and the largest difference."""

    views: int = 0
    samples: int = 0  # outputs that were computed again
    stored: int = 0  # and of how many
    largest: float = 0.0  # difference of a number
    relative: float = 0.0  # over the larger of 1 and the stored number
    where: str = ""  # view and sample of the largest relative one
    damaged: list[Path] = field(default_factory=list)  # files that cannot be read whole


@dataclass(frozen=True)
class Part:
    """Some samples of one view."""

    number: int
    kind: int
    index: np.ndarray


class Again(L.LightningModule):
    """The teacher alone, run as a fit runs it."""

    def __init__(self, source: CachedTeacher, task: Task, parts: list[Part], found: Compared) -> None:
        super().__init__()
        self.source, self.task, self.parts, self.found = source, task, parts, found
        task.place(self)

    def predict_step(self, batch: Batch, batch_idx: int) -> bool:
        """Compare one batch with what the cache holds of it; returns something, as Lightning warns of None."""
        part, layout = self.parts[batch_idx], self.source.cache.layout
        inputs = [self.task.arrange(batch.inputs[part.kind])]
        (live,) = FrozenTeacher.forward(self.source, replace(batch, inputs=inputs))
        fresh = layout.widen(layout.narrow(live, torch.from_numpy(part.index)))
        kept = layout.decode(self.source.cache.view(part.number, part.kind).read(part.index), batch.index.device)
        self._compare(part, fresh, kept)
        return True

    def _compare(self, part: Part, fresh: SimpleNamespace, kept: SimpleNamespace) -> None:
        for name, values in vars(kept).items():
            off = (vars(fresh)[name] - values).abs().nan_to_num(nan=math.inf)
            relative = (off / values.abs().clamp(min=1)).amax(1)
            self.found.largest = max(self.found.largest, float(off.max()))
            if not self.found.where or float(relative.max()) > self.found.relative:
                sample = part.index[int(relative.argmax())]
                self.found.relative = float(relative.max())
                self.found.where = f"{name} of sample {sample} in view {part.number}-{part.kind}"


class Chosen(L.LightningDataModule):
    """Chosen samples in their views, as a fit on the data sees them."""

    def __init__(self, data: DataModule, parts: list[Part]) -> None:
        super().__init__()
        self.data, self.parts = data, parts

    def predict_dataloader(self) -> "Chosen":
        """The parts, a batch each."""
        return self

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        source = self.data.train_dataloader().source
        for part in self.parts:
            index = torch.from_numpy(part.index)
            if isinstance(source, Dataset):
                yield Blocks(source)[index, [part.number]][0]
            else:
                yield source.batch(index, part.number)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The views, as in a fit."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


def compare(source: CachedTeacher, data: DataModule, config: RunConfig, task: Task, *, share: float) -> Compared:
    """Compare a share of each published view, a sample at least, with the live teacher; `data`: configured for the fit."""
    parts, found = [], Compared()
    for number, kind in source.cache.stored(data.num_views):
        view = source.cache.view(number, kind)
        found.damaged += view.damaged
        present = np.flatnonzero(view.present)
        count = min(len(present), max(1, round(share * len(present))))
        chosen = np.sort(np.random.RandomState((number % 2**32, kind)).permutation(present)[:count])
        batches = -(-count // data.batch_size)
        parts += [Part(number, kind, some) for some in np.array_split(chosen, batches)] if count else []
        found.views, found.samples, found.stored = found.views + 1, found.samples + count, found.stored + len(present)
    if parts:
        with tempfile.TemporaryDirectory() as nowhere:
            trainer = replace(config.trainer, devices=1, progress_bar=False)
            engine = make_trainer(config.recipe, trainer, Path(nowhere), callbacks=[], logger=False)
            engine.predict(Again(source, task, parts, found), datamodule=Chosen(data, parts), return_predictions=False)
    return found
