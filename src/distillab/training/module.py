"""The one LightningModule: a student, a teacher, and the strategy by which the one learns from the other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.data.labels import pseudo_label
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.image_model import ImageModel
from distillab.strategies.strategy import Phase, Strategy
from distillab.tasks.image_classification import Classification
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.sharded import ShardedTeacher
from distillab.training.dot import DOT, check_kinds
from distillab.training.phases import Phased
from distillab.training.recipe import Recipe, make_optimizer
from distillab.training.term_inputs import (
    answer_labels,
    call,
    reachable_parameters,
    shared_parameters,
    show_data,
    wanted_views,
)

if TYPE_CHECKING:
    from distillab.teachers.cached import CachedOutputs

CHECK_EVERY = 50  # steps between looks at the loss on a device where a look makes the host wait


class Distillation(Phased):
    """Trains a student with a strategy; works under `train.py` and under any plain `lightning.Trainer`.

    Args:
        student: an ImageModel, or any network from images to logits.
        teacher: likewise, or a source of teacher outputs; None where no term reads a teacher. It is frozen.
        strategy: terms by name, their config, or a Strategy.
        input_shape: (C, H, W) of the images; needed for networks that are no ImageModel.
        recipe: optimiser and schedule; None takes the default's, for the trainer's epochs.
        seed: of dropout and other randomness in a step.
        channels_last: lay images out by pixel, which CPUs and GPUs run faster.

    Raises:
        UserError: the strategy and the two models do not go together.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        strategy: Strategy | Mapping[str, Any] | None = None,
        *,
        input_shape: tuple[int, int, int] | None = None,
        recipe: Recipe | Mapping[str, Any] | None = None,
        seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.recipe = Recipe.of(recipe)
        self.seed = seed
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.student = _image_model(student, input_shape, "student")
        self.strategy = Strategy.of(strategy or {"ce": {"_target_": "distillab.strategies.ce.CrossEntropy"}})
        if not self.strategy.needs_teacher:
            teacher = None
        elif teacher is not None and not hasattr(teacher, "after_step"):
            teacher = FrozenTeacher(_image_model(teacher, input_shape, "teacher"))
        self.teacher = teacher
        check_kinds(self.recipe.optimizer, self.strategy)
        self.strategy.connect(self.student.info, teacher.info if teacher is not None else None, seed)
        self.extractor = FeatureExtractor(self.student, self.strategy.needs("student"))
        self.extractors = [self.extractor]  # how the step runs each network that learns
        if teacher is not None:
            teacher.request(self.strategy.needs("teacher"))
        self.task = Classification(self.student.info.outputs)
        self.phase = Phase(0, 1, tuple(self.strategy.terms))
        self._trainable = [p for p in (*self.student.parameters(), *self.strategy.parameters()) if p.requires_grad]
        self.cache: CachedOutputs | None = None
        self.teacher_timer: Any = nullcontext  # a callback may time the teacher
        self._shared: dict[Phase, list[nn.Parameter]] = {}
        self._task_losses: list[Tensor] = []
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self.answers = False  # whether the teacher stands in for labels that are unknown
        self.to(memory_format=self.layout)

    # ------------------------------------------------------------------ phases

    def setup(self, stage: str) -> None:
        """Lay the phases out over the trainer's epochs, and find the parameters each one reaches."""
        if stage == "fit":
            self.strategy.check_mixed(getattr(self.trainer.datamodule, "mixes", False))
            answer_labels(self)
            if isinstance(self.teacher, ShardedTeacher):  # before anything is moved to the device or asks it
                self.teacher.share_out(self.trainer.strategy.root_device)
                self.to(self.trainer.strategy.root_device)
            show_data(self)
            self.phases = self.strategy.plan(self.trainer.max_epochs)
            self._reachable = {phase: reachable_parameters(self, phase, self._trainable) for phase in self.phases}
            if self.recipe.optimizer == "dot":
                brought = {"clip": self.trainer.gradient_clip_val or None, "precision": self.trainer.precision}
                Recipe.of(vars(self.recipe) | brought)  # a plain Trainer may bring in what dot does not take
                self._shared = {phase: shared_parameters(self, phase, self._trainable) for phase in self.phases}
            self._enter(self.phases[0])

    def teardown(self, stage: str) -> None:
        """Let one process alone ask the teacher again."""
        if isinstance(self.teacher, ShardedTeacher):
            self.teacher.make_whole()

    # ------------------------------------------------------------------ steps

    def losses(self, batch: Batch, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The weighted loss of each named term on a prepared batch."""
        terms = {name: self.strategy.terms[name] for name in names}
        views = wanted_views(batch, terms, self.layout)
        student = [self.extractor(images) for images in views]
        reads = any("teacher." in need for term in terms.values() for need in term.needs)
        asks = self.teacher is not None and (reads or self.answers)
        teacher = self._taught(views, batch) if asks else [SimpleNamespace()] * len(views)
        labels = pseudo_label(batch.labels, teacher[0].logits) if self.answers else batch.labels
        seen = SimpleNamespace(labels=labels, index=batch.index, views=views)
        with torch.autocast(batch.labels.device.type, enabled=False):
            return {name: term.weight * call(term, student, teacher, seen) for name, term in terms.items()}

    def _taught(self, views: list[Tensor], batch: Batch) -> list:
        """The teacher's outputs; in training from the cache, if there is one."""
        with self.teacher_timer(len(views) * len(batch.labels)):
            if self.cache is not None and self.training:
                return self.cache.outputs(self.teacher, views, batch)
            return self.teacher.outputs(views, None if self.answers else batch.labels)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Rate and dropout depend on (seed, step, rank) alone, so a resumed run does what the unbroken one did."""
        self._set_rate(batch_idx)
        step = self.current_epoch * self.trainer.num_training_batches + batch_idx
        torch.manual_seed(((self.seed * 1_000_003 + step) * 4099 + self.global_rank) % 2**63)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        losses = self.losses(Batch.of(batch), self.phase.terms)
        total = torch.stack(list(losses.values())).sum()
        now = {name: value.detach() for name, value in ({"loss": total} | losses).items()}
        for name, value in now.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._steps += 1
        every = self.trainer.log_every_n_steps
        if self.trainer.loggers and every and (self.trainer.global_step + 1) % every == 0:  # when Lightning writes
            self.log_dict({f"step/{name}": value for name, value in now.items()})
        if self.device.type == "cpu" or batch_idx % CHECK_EVERY == 0:
            self._check_finite()
        self._task_losses = [loss for name, loss in losses.items() if self.strategy.terms[name].kind == "task"]
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As usual; dot first sees the losses of the task terms, for the parameters that both kinds reach."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        if isinstance(optimizer, DOT) and self._shared[self.phase]:
            optimizer.split(loss, self._task_losses, self._shared[self.phase])
        self._task_losses = []  # they hold the graph
        super().backward(loss, *args, **kwargs)

    def _check_finite(self) -> None:
        for name, value in self._sums.items():
            if name != "loss" and not torch.isfinite(value):
                raise UserError(
                    f"strategy.{name} became {value.item()} in epoch {self.current_epoch + 1}; the last good checkpoint "
                    f"is kept; try a smaller recipe.lr or strategy.{name}.weight, or recipe.clip=1"
                )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """As usual; then a teacher that follows the student follows, before any callback saves the state."""
        super().optimizer_step(*args, **kwargs)
        if self.teacher is not None:
            self.teacher.after_step(self.student)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean of every term, and its phase."""
        self._check_finite()
        self.log_dict({f"train/{name}": value for name, value in self.mean_losses().items()}, sync_dist=True)
        self.log_dict(self.numbered)
        self._sums, self._steps = {}, 0

    def mean_losses(self) -> dict[str, Tensor]:
        """The mean of the loss and of every weighted term over this epoch's steps so far."""
        return {name: value / max(self._steps, 1) for name, value in self._sums.items()}

    def on_validation_epoch_start(self) -> None:
        """Put together what would be deployed, once for all batches."""
        self._judged = [self.deployed()]  # in a list: its parts have their places already

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge what would be deployed."""
        batch = Batch.of(batch)
        images = batch.views[0].contiguous(memory_format=self.layout)
        self.task.update(self._judged[0](images), batch.labels)
        self.log_dict(self.task.metrics("val"), on_epoch=True, batch_size=len(batch), prog_bar=True)

    def deployed(self) -> nn.Module:
        """What is validated, counted and exported: the student, with whatever a term ships with it."""
        model: nn.Module = self.student
        for term in self.strategy.terms.values():
            model = term.deploy(model, self.teacher)
        return model

    def release(self) -> None:
        """Take the hooks off all networks, which live on without a training step."""
        for extractor in (*self.extractors, getattr(self.teacher, "extractor", None)):
            if extractor is not None:
                extractor.remove()

    # ------------------------------------------------------------------ optimiser and checkpoint

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser over student and connectors, whatever the phase; `on_train_batch_start` sets its rate."""
        return make_optimizer(self.recipe, self._trainable)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave a frozen teacher out: it has its own file. What it said so far is published with the state."""
        checkpoint["losses"] = (self._sums, self._steps)
        if self.cache is not None:
            self.cache.publish()
        if self.teacher is not None and self.teacher.frozen:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the live teacher's tensors where the checkpoint has none, so that loading stays strict."""
        self._sums, self._steps = checkpoint.get("losses", ({}, 0))
        if self.teacher is not None and self.teacher.frozen:
            live = {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
            checkpoint["state_dict"] = live | checkpoint["state_dict"]


def _image_model(model: nn.Module, input_shape: tuple[int, int, int] | None, role: str) -> ImageModel:
    if isinstance(model, ImageModel):
        return model
    if input_shape is None:
        raise UserError(f"the {role} is a plain network; say input_shape=(channels, height, width) of its images")
    return ImageModel(model, input_shape)
