"""Replays what the teacher said instead of running it, where the cache knows it; fills the cache where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.distributed import rank_zero_print
from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.data.images.datamodule import ImageData
from distillab.models.fingerprint import preprocessing, structure, weights_hash
from distillab.teachers.cache import MEND, TeacherCache, View
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.layout import Layout
from distillab.training.module import Distillation

MODES = ("auto", "never", "require")
STORED = {"logits", "embedding"}
LAYERS = {"head", "norms"}  # parts of the teacher, which need no run of it


class CachedOutputs:
    """Stands between a module and its frozen teacher.

    A batch of which any sample is new is run as a whole, and training sees the rounded numbers that are stored: the
    run that fills the cache, one that reads it and one that resumes end in the same weights.

    Args:
        cache: where they are kept.
        require: raise where a sample is missing, rather than run the teacher.
    """

    def __init__(self, cache: TeacherCache, require: bool = False) -> None:
        self.cache, self.require = cache, require
        self.read = self.computed = 0
        self._under_way: list[Arrival] = []

    def outputs(self, teacher: FrozenTeacher, views: list[Tensor], batch: Batch) -> list[SimpleNamespace]:
        """What `teacher.outputs` gives for the views, a namespace per view.

        Raises:
            UserError: a sample is missing, and `require` is set.
        """
        index = batch.host_index if batch.host_index is not None else batch.index.cpu().numpy()
        if any(one.number != batch.number or np.isin(one.index, index).any() for one in self._under_way):
            self._land(wait=True)
        found = []
        for kind, images in enumerate(views):
            view = self.cache.view(batch.number, kind)
            if not view.present[index].all():
                view.refresh()
            if view.present[index].all():
                self.read += len(index)
                outputs = self.cache.layout.decode(view.read(index), images.device)
            else:
                outputs = self._run(teacher, images, batch, view, index)
            for name, layer in teacher.extractor.layers().items():
                setattr(outputs, name, layer)
            found.append(outputs)
        return found

    def _run(self, teacher: FrozenTeacher, images: Tensor, batch: Batch, view: View, index: np.ndarray) -> Any:
        if self.require:
            missing = int((~view.present[index]).sum())
            raise UserError(
                f"cache.mode=require, and the teacher cache lacks {missing} of {len(index)} samples of view "
                f"{batch.number}; fill it with cache.mode=auto"
            )
        self.computed += len(index)
        (live,) = teacher.outputs([images], batch.labels)
        layout = self.cache.layout
        fields = layout.narrow(live)
        known = view.present[index]
        if known.any():
            rows = torch.from_numpy(np.flatnonzero(known)).to(images.device)
            for name, values in layout.unpack(view.read(index[known]), images.device).items():
                fields[name] = fields[name].index_copy(0, rows, values)
        if self.cache.filling:
            self._under_way.append(Arrival(view, batch.number, index, *to_host(fields)))
            self._land()
        return layout.widen(fields)

    def _land(self, wait: bool = False) -> None:
        """Take up what has come back from the device; what is still on its way only where `wait` is set."""
        while self._under_way and (wait or self._under_way[0].here()):
            one = self._under_way.pop(0)
            if one.event is not None:
                one.event.synchronize()
            one.view.add(one.index, self.cache.layout.pack(one.fields))

    def publish(self) -> None:
        """Let other runs see what this one added."""
        self._land(wait=True)
        self.cache.publish()

    @property
    def record(self) -> dict[str, Any]:
        """For the result: samples `read` and `computed`, bytes of a sample."""
        size = self.cache.layout.record.itemsize
        return {"read": self.read, "computed": self.computed, "bytes_per_sample": size, "key": self.cache.key}


@dataclass(frozen=True)
class Arrival:
    """A batch's outputs on their way from the device to the host."""

    view: View
    number: int
    index: np.ndarray
    fields: Mapping[str, Tensor]
    event: torch.cuda.Event | None

    def here(self) -> bool:
        """Whether they have arrived."""
        return self.event is None or self.event.query()


def to_host(fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], torch.cuda.Event | None]:
    """The fields in the host's memory, and the event after which they are whole; None: they are so now."""
    if next(iter(fields.values())).device.type != "cuda":
        return {name: values.cpu() for name, values in fields.items()}, None
    copies = {name: torch.empty_like(values, device="cpu", pin_memory=True) for name, values in fields.items()}
    for name, values in fields.items():
        copies[name].copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copies, event


def check_cache(settings: Mapping[str, Any], classes: int) -> None:
    """Raise UserError where a number of the group `cache` makes no sense for data of so many classes."""
    if settings["mode"] not in MODES:
        raise UserError(f'cache.mode must be one of {", ".join(MODES)}, got "{settings["mode"]}"')
    Layout(classes, None, settings["dtype"], settings["top_k"])
    limit = settings["limit_gb"]
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0):
        raise UserError(f"cache.limit_gb must be a number of GB from 0, or null for no limit, got {limit}")


def attach(module: Distillation, data: ImageData, config: Mapping[str, Any], root: Path) -> None:
    """Give a module its cache, where its strategy and its teacher allow one; say so where not.

    Args:
        module: about to be fitted.
        data: configured for the fit.
        config: the whole config; `cache`, `recipe.precision` and parts of `trainer` are read.
        root: the folder of all caches.

    Raises:
        UserError: a wrong setting, or `require` where there can be no cache.
    """
    settings, trainer = config["cache"], config["trainer"]
    needs, info = module.strategy.needs("teacher"), module.student.info
    check_cache(settings, info.outputs)
    if settings["mode"] == "never" or not needs:
        return
    width = module.teacher.info.embedding if "embedding" in needs else None
    layout = Layout(info.outputs, width, settings["dtype"], settings["top_k"])
    if live := _reason(module, layout):
        if settings["mode"] == "require":
            raise UserError(f"cache.mode=require, but {live}; set cache.mode=auto")
        rank_zero_print(f"the teacher runs live: {live}")
        return
    if "logits" not in needs:  # they are kept in any case, for other methods on the same embedding
        module.teacher.extractor.remove()
        module.teacher.request(needs | {"logits"})
    teacher = module.teacher.model
    key = {
        "weights": weights_hash(teacher),
        "structure": structure(teacher),
        "about": preprocessing(teacher),
        "spec": str(teacher.info),
        "data": data.configure(data.batch_size, data.seed).fingerprint,  # of one view: the weak one
        "files": data.files_stamp,
        "precision": config["recipe"]["precision"],
        "channels_last": trainer["channels_last"],
    }
    if trainer.get("compile") == "both":
        key["compiled"] = True
    if (device := _device(trainer.get("accelerator", "auto"))) != "cpu":
        key["device"] = device
    limit = math.inf if settings["limit_gb"] is None else 1e9 * settings["limit_gb"]
    cache = TeacherCache(root, key, layout, data.sizes["train"], limit, strong={"data": data.fingerprint})
    _look_ahead(cache, module, data, settings["mode"] == "require")
    module.cache = CachedOutputs(cache, settings["mode"] == "require")


def _device(accelerator: str) -> str:
    """The type of device on which the teacher will run: another one rounds otherwise."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator == "cpu" or found is None else found.type


def _look_ahead(cache: TeacherCache, module: Distillation, data: ImageData, require: bool) -> None:
    """Say that the views of the fit will not fit the limit; with `require`, raise where one is not there at all."""
    epochs, kinds = module.recipe.epochs, range(module.strategy.num_views)
    views = [(number, kind) for number in range(min(epochs, data.cycle or epochs)) for kind in kinds]
    lacking = sum(not cache.has(*view) for view in views)
    if require and lacking and not module.strategy.phases:  # in some phases nobody may ask the teacher
        raise UserError(
            f"cache.mode=require, and the teacher cache lacks {lacking} of the {len(views)} views that "
            f"recipe.epochs={epochs} reads; fill it with cache.mode=auto"
        )
    if require or not lacking:
        return
    needed, taken = lacking * cache.layout.bytes(cache.samples), cache.bytes_taken()
    if taken + needed > cache.limit:
        rank_zero_print(
            f"{lacking} views of this run take up to {needed / 1e9:.2f} GB more in the teacher cache, of whose "
            f"cache.limit_gb={cache.limit / 1e9:g} {taken / 1e9:.2f} are taken: for the others the teacher runs live; "
            f"raise it, delete what is not needed any more in {cache.root}, or set {MEND}"
        )


def _reason(module: Distillation, layout: Layout) -> str | None:
    """Why the teacher cannot be replayed; None where it can."""
    if type(module.teacher) is not FrozenTeacher:
        return "only the outputs of one teacher that does not change can be cached"
    for name, term in module.strategy.terms.items():
        own = {need.removeprefix("teacher.") for need in term.needs if need.startswith("teacher.")}
        if beyond := sorted(own - STORED - LAYERS):
            return f"strategy.{name} reads teacher.{beyond[0]}, and the cache holds logits and embeddings"
    return None
