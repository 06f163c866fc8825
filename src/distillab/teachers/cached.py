"""Replays cached teacher outputs; runs the teacher for the others and adds them to the cache."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, Batch
from distillab.models.model import Model
from distillab.teachers.cache import TeacherCache, View
from distillab.teachers.frozen import FrozenTeacher


class CachedTeacher(FrozenTeacher):
    """A frozen teacher behind a cache; with `require` it raises if a sample is missing, rather than run the network.

    A batch with any new sample runs as a whole, and training sees the rounded numbers that are stored: the run that
    fills the cache, one that reads it and one that resumes end in the same weights. Samples as they are stored
    (evaluation, terms that look at the data) always run.
    """

    def __init__(self, model: Model, cache: TeacherCache, require: bool = False) -> None:
        super().__init__(model)
        self.cache, self.require = cache, require
        self.computed = 0
        self._pending: list[PendingCopy] = []

    def request(self, needs: Iterable[str]) -> None:
        """Select the outputs; logits are always stored, for other methods on the same embedding."""
        super().request({*needs, "logits"})

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The requested outputs for each view; raises UserError if a sample is missing and `require` is set."""
        if batch.view_number == AS_STORED:
            return super().forward(batch)
        index = batch.places
        if any(self._stands_before(copy, batch.view_number, index) for copy in self._pending):
            self._collect(wait=True)
        return [self._outputs(batch, kind, index) for kind in range(len(batch.inputs))]

    def _stands_before(self, copy: "PendingCopy", number: int, index: np.ndarray) -> bool:
        """Whether a copy must arrive before samples of a view are read: it holds some of them, or closes with its views."""
        if copy.number == number:
            return bool(np.isin(copy.index, index).any())
        return self.cache.group(copy.number) != self.cache.group(number)

    def _outputs(self, batch: Batch, kind: int, index: np.ndarray) -> SimpleNamespace:
        view = self.cache.view(batch.view_number, kind)
        if not view.present[index].all():
            view.refresh()
        if view.present[index].all():
            self.replayed += len(index)
            outputs = self.cache.layout.decode(view.read(index), batch.index.device)
        else:
            outputs = self._run(Batch([batch.inputs[kind]], batch.targets, batch.index, batch.view_number), view, index)
        vars(outputs).update(self.extractor.layers())
        return outputs

    def _run(self, batch: Batch, view: View, index: np.ndarray) -> SimpleNamespace:
        known = view.present[index]
        if self.require:
            raise UserError(
                f"cache.mode=require, and the teacher cache lacks {(~known).sum()} of {len(index)} samples of view "
                f"{batch.view_number}; fill it with cache.mode=auto"
            )
        self.computed += len(index)
        (live,) = super().forward(batch)
        layout, device = self.cache.layout, batch.index.device
        fields = layout.narrow(live, torch.from_numpy(index))
        if known.any():
            rows = torch.from_numpy(np.flatnonzero(known)).to(device)
            for name, values in layout.unpack(view.read(index[known]), device).items():
                fields[name] = fields[name].index_copy(0, rows, values)
        _, first, sample = np.unique(index, return_index=True, return_inverse=True)
        if len(first) < len(index):  # drawn with replacement: every copy of a sample gets the record that is kept
            rows = torch.from_numpy(first[sample]).to(device)
            fields = {name: values[rows] for name, values in fields.items()}
        if self.cache.filling:
            self._pending.append(PendingCopy(view, batch.view_number, index, *to_host(fields)))
            self._collect()
        return layout.widen(fields)

    def _collect(self, wait: bool = False) -> None:
        """Add finished copies to their views; `wait` includes unfinished ones."""
        while self._pending and (wait or self._pending[0].finished()):
            copy = self._pending.pop(0)
            if copy.event is not None:
                copy.event.synchronize()
            copy.view.add(copy.index, self.cache.layout.pack(copy.fields))

    def flush(self) -> None:
        """Publish all new records."""
        self._collect(wait=True)
        self.cache.publish()

    @property
    def cache_record(self) -> dict[str, Any]:
        """Samples `read` and `computed`, bytes of a sample, the cache's key."""
        size = self.cache.layout.record.itemsize
        return {"read": self.replayed, "computed": self.computed, "bytes_per_sample": size, "key": self.cache.key}


@dataclass(frozen=True)
class PendingCopy:
    """A batch's outputs on their way from the device to the host."""

    view: View
    number: int
    index: np.ndarray
    fields: Mapping[str, Tensor]
    event: torch.cuda.Event | None

    def finished(self) -> bool:
        """Whether the fields are complete."""
        return self.event is None or self.event.query()


def to_host(fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], torch.cuda.Event | None]:
    """Copies in the host's memory, and the event that completes them; None: they are complete."""
    if next(iter(fields.values())).device.type != "cuda":
        return {name: values.cpu() for name, values in fields.items()}, None
    copies = {name: torch.empty_like(values, device="cpu", pin_memory=True) for name, values in fields.items()}
    for name, values in fields.items():
        copies[name].copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copies, event
