"""Exports a run's student in the formats that are asked for, with a proof of each file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distillab.commands.hub import check_hub
from distillab.commands.invocation import RUNS
from distillab.core.errors import UserError
from distillab.core.exports import ExportedFile
from distillab.core.files import file_hash, replacing, writable
from distillab.core.output import rank_zero_print
from distillab.data.module import DataModule
from distillab.evaluation.exported import check, decoded, prove
from distillab.export.exporter import Shipped
from distillab.export.formats import EXPORTERS
from distillab.models.image_model import ImageModel
from distillab.models.model import Model, placed
from distillab.models.trace import evaluation_mode
from distillab.tasks.base import Task

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig

CALIBRATION = 512  # training images of which the ranges of 8-bit activations are taken


@dataclass(frozen=True)
class Export:
    """A trained student, the data that it is proved on, and where its files lie.

    `split` proves them: test, or validation for a student whose training has not ended; `stem` begins the files' names.
    """

    model: Model  # as it is deployed
    data: DataModule
    task: Task
    directory: Path
    notes: Mapping[str, Any] = field(default_factory=dict)  # further metadata
    split: str = "test"
    stem: str = "student"
    place: str = RUNS  # what chooses another folder where this one cannot be written

    @cached_property
    def predicted(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the student answers on the split, and the labels: every file is compared with it."""
        return self.task.predictions(self.model, self.data, self.split, "cpu")

    def files(self, formats: Sequence[str]) -> Iterator[ExportedFile]:
        """Write and prove one file after the other; a file that cannot be made is a UserError, and is not left behind."""
        home = placed(self.model)[0]
        try:
            with evaluation_mode(self.model):
                expected, labels = self.predicted
                shipped = shipped_of(self.model, self.data, self.notes)
                for name in formats:
                    yield self._file(name, shipped, expected, labels)
        finally:
            self.model.to(home)

    def _file(self, name: str, shipped: Shipped, expected: torch.Tensor, labels: torch.Tensor) -> ExportedFile:
        exporter = EXPORTERS[name]
        path = self.directory / f"{self.stem}{exporter.suffix}"
        rank_zero_print(f"exporting {path}")
        with writable(self.directory, self.place), replacing(path) as temporary:
            exporter.export(shipped, temporary)
            proof = prove(exporter.load(temporary), self.data, self.split, expected)
            check(proof, expected, path.name, exact=exporter.exact)
            size, sha256 = temporary.stat().st_size, file_hash(temporary)
        figures = self.task.figures(proof.logits, labels)
        return ExportedFile(
            format=name,
            file=path.name,
            size_bytes=size,
            sha256=sha256,
            runtime=exporter.runtime,
            metrics={key: value for key, value in figures.items() if key != "per_class"},
            difference=proof.difference,
            same_answers=proof.same_answers,
            latency_ms=proof.latency_ms,
            latency_spread=proof.latency_spread,
            threads=proof.threads,
        )


def shipped_of(model: Model, data: DataModule, notes: Mapping[str, Any]) -> Shipped:
    """What the files of a model of these data are made of."""
    shape = (data.info.channels, data.info.image_size, data.info.image_size)
    some = data.some_of_training(CALIBRATION)
    return Shipped(model, data.info.classes, shape, lambda: decoded(some, "train"), notes)


def check_formats(config: "RunConfig", task: Task) -> None:
    """Raise UserError where a student of this task has no such format, or a package is missing."""
    if config.export and not task.exports:
        raise UserError(
            f"{', '.join(config.export)}: for students of images; one of task={task.name} is written as a folder that "
            f"transformers loads, student/: leave it out"
        )
    if config.push_to_hub:
        check_hub()
    for name in config.export:
        EXPORTERS[name].check()


def try_out(student: ImageModel, data: DataModule, formats: Sequence[str]) -> None:
    """Convert an untrained student, as a network that cannot be exported is to be refused before it is trained."""
    with evaluation_mode(student):
        shipped = shipped_of(student, data, {})
        for name in formats:
            EXPORTERS[name].convert(shipped)


def notes_of(data: DataModule, epoch: int | None, epochs: int | None, more: str = "") -> dict[str, str]:
    """What a file says of a student's training."""
    told = {"data": data.info.name}
    return told if epoch is None else told | {"epoch": f"{epoch}{f' of {epochs}' if epochs else ''}{more}"}
