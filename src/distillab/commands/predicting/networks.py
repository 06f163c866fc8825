"""The networks of a run by role, out of its folder and its store: nothing is trained for them."""

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distillab.commands import steps, trained
from distillab.commands.invocation import LANGUAGE
from distillab.commands.run_folder import TRUST, check_named, check_weights, ended
from distillab.core.allowed import Range
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import locate
from distillab.core.output import rank_zero_print
from distillab.core.result import Role
from distillab.core.timer import Timer
from distillab.data.module import DataModule
from distillab.data.text.tokenizer import load_tokenizer
from distillab.export.safetensors import load_student
from distillab.models.causal_lm import CausalLM, pretrained_lm
from distillab.models.checkpoint import read_weights
from distillab.models.model import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGES = "distillab.tasks.image_classification.ImageClassification"
NO_TEACHER = "leave teacher=true out"


@dataclass(frozen=True)
class Network:
    """A network of a run, in evaluation mode on the device that runs it."""

    role: Role
    model: Model
    classes: tuple[str, ...] = ()  # of images, in the order of its outputs
    tokenizer: "PreTrainedTokenizerBase | None" = None  # of text
    epoch: str | None = None  # of a student whose training has not ended: which one it is


class RunNetworks:
    """The networks of a run's folder.

    `config` is the folder's own, or one with other places of its data and its store. Without `trust` no code is called
    that the folder alone names.
    """

    def __init__(self, directory: Path, config: RunConfig, *, trust: bool = False) -> None:
        self.directory, self.trust = directory, trust
        # What leaves the run is no part of its networks, and one process runs them.
        self.config = replace(config, export=[], push_to_hub=None).on_devices(1)
        self.reads_text = config.task.target == LANGUAGE
        if not self.reads_text and config.task.target != IMAGES:
            raise UserError(f"run: {directory} has task._target_={config.task.target}; images and text are predicted")
        self.device = "cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"

    @cached_property
    def student(self) -> Network:
        """The distilled student, with what its strategy ships; of an interrupted run that of its best epoch.

        Raises UserError where there is none, or a file is no student that can be read.
        """
        result = ended(self.directory)
        if self._kept.exists():
            if result is None:
                told = (
                    f"{self.directory} has no result.json, so nothing says whether {self._kept.name} is the run's own"
                )
                rank_zero_print(told, file=sys.stderr)
            else:
                own = {
                    name: sha256 for name, sha256 in result.weights.items() if name.partition("/")[0] == self._kept.name
                }
                check_weights(self.directory, own)
            return self._finished_text() if self.reads_text else self._finished_images()
        if result is not None:
            missing = f"{self.directory} has no {self._kept.name}"
            if self.reads_text and (self.directory / "student.safetensors").exists():
                raise UserError(f"{missing}/: only networks of transformers are written there, and read from there")
            raise UserError(f"{missing}; rerun=true in the run's command makes it again")
        made = trained.interrupted_student(self.config, self.directory, self._checked())
        return self._network("student", made.model, made.data, epoch=made.notes["epoch"])

    @cached_property
    def teacher(self) -> Network:
        """The run's teacher. Raises UserError where the run has none beside the student, or its weights are not there."""
        run, scheme = self._prepared.run, self._prepared.scheme
        if scheme.obtain(run) is None or scheme.model is None:
            what = "strategy=none" if not run.strategy.needs_teacher else f"scheme={scheme.name}"
            raise UserError(f"{self.directory} has no teacher beside its student ({what}): {NO_TEACHER}")
        return self._network("teacher", scheme.model, run.data.teacher_side)

    @cached_property
    def alone(self) -> Network:
        """The same student trained without a teacher. Raises UserError where it is not in the store."""
        run = self._prepared.run
        model = run.student()
        run.train_student_alone(model)
        return self._network("baseline", model, run.data)

    @property
    def data(self) -> DataModule:
        """The run's data, prepared. Raises UserError where they are not there."""
        return self._prepared.run.data

    @property
    def _kept(self) -> Path:
        """What a run writes of its student when its training has ended."""
        return self.directory / ("student" if self.reads_text else "student.safetensors")

    @cached_property
    def _prepared(self) -> steps.Steps:
        made = steps.prepare(self.config, self._checked(), Timer())
        made.run.setting.store.only_kept = True
        return made

    def _checked(self) -> steps.Parts:
        if not self.trust:
            check_named(self.config.plain, self.directory)
        return steps.check(self.config)

    def _network(self, role: Role, model: Model, data: DataModule, **more: Any) -> Network:
        about = {"tokenizer": data.info.tokenizer} if self.reads_text else {"classes": tuple(data.info.classes)}
        return Network(role, model.to(self.device).eval(), **about, **more)

    def _finished_images(self) -> Network:
        file = self._kept
        target = self.config.student.builder.target
        try:
            model = load_student(file, network=locate(target, "student") if self.trust and target else None)
        except UserError as error:
            raise UserError(str(error).replace(f'load_student("{file}", YourClass)', TRUST)) from error
        names = tuple(map(str, read_weights(file, "run")[1].classes or ()))
        return Network("student", model.to(self.device), names)

    def _finished_text(self) -> Network:
        folder = self._kept
        tokenizer = load_tokenizer(str(folder), "run")
        length = Range(2, whole=True).check(self.config.data.get("length", 128), "data.length", 128)
        name = self.config.student.name or "student"
        model = CausalLM(pretrained_lm(str(folder)), len(tokenizer), length, name)
        return Network("student", model.to(self.device).eval(), tokenizer=tokenizer)
