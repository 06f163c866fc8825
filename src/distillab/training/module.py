"""The LightningModule that trains a student with a teacher and a strategy."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.data.batch import Batch, Writing
from distillab.data.labels import pseudo_label
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.model import Model
from distillab.strategies.phase import Phase
from distillab.strategies.strategy import Strategy
from distillab.tasks.base import Task
from distillab.tasks.image_classification import ImageClassification
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher
from distillab.training import finite
from distillab.training.dot import DOT, check_kinds
from distillab.training.on_policy import on_policy
from distillab.training.optimizer import make_optimizer
from distillab.training.phases import Phased, reachable_parameters, shared_parameters
from distillab.training.step_learning import StepLearning
from distillab.training.term_inputs import prepare_terms, term_losses, wanted_views

CHECK_EVERY = 50  # steps between checks of values on a device that makes the host wait for each


class Distillation(Phased):
    """Trains a student with a strategy; works under `train.py` and under any plain `lightning.Trainer`.

    The student's weights are trained in place: afterwards `module.student.net` is the network that was given, and
    `module.deployed()` the model to use, with its preprocessing and what a term ships with it.

    `student` is a Model, or any network that the task can wrap; `teacher` likewise, and then frozen, or a TeacherSource,
    or None if no term reads one; `strategy` is the name of a file in conf/strategy or a list of them, terms by name, their
    config, or a Strategy, None is cross-entropy. A
    `task` of None is image classification with `task_options`: `input_shape`, (C, H, W) of the images, which plain
    networks need, and `channels_last`. A `recipe` of None is the default's, for the trainer's epochs; `seed` is that of
    dropout and other randomness in a step. Raises UserError where the strategy does not fit the two models.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        strategy: Strategy | Mapping[str, Any] | str | Sequence[str] | None = None,
        task: Task | None = None,
        *,
        recipe: Recipe | Mapping[str, Any] | None = None,
        seed: int = 0,
        **task_options: Any,
    ) -> None:
        super().__init__()
        self.recipe, self.seed = Recipe.of(recipe), seed
        self.task = task or ImageClassification(**task_options)
        self.student = self.task.wrap(student, "student")
        ce = {"ce": {"_target_": "distillab.strategies.ce.CrossEntropy"}}
        self.strategy = Strategy.of(strategy or ce, self.task.name)
        if not self.strategy.needs_teacher:
            teacher = None
        elif teacher is not None and not isinstance(teacher, TeacherSource):
            teacher = FrozenTeacher(self.task.wrap(teacher, "teacher"))
        self.teacher = teacher
        check_kinds(self.recipe.optimizer, self.strategy)
        self.strategy.connect(self.student.info, teacher.info if teacher is not None else None, seed)
        self.extractors = [FeatureExtractor(self.student, self.strategy.needs("student"))]  # one per trained network
        if teacher is not None:
            teacher.request(self.strategy.needs("teacher"))
        self.metrics = self.task.metrics(self.student.info)
        self.phase = Phase(0, 1, tuple(self.strategy.terms))
        self.trainable = [p for p in (*self.student.parameters(), *self.strategy.parameters()) if p.requires_grad]
        self.teacher_timer: Callable[[int], AbstractContextManager] = lambda samples: nullcontext()
        self.writing_timer: Callable[[], AbstractContextManager] = nullcontext
        self.writing: Writing | None = None  # whether the student writes some of its batches
        self._shared: dict[Phase, list[nn.Parameter]] = {}
        self._task_losses: list[Tensor] = []
        self._step_learning = StepLearning(self.strategy.terms)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self.pseudo_labels = False  # whether the teacher's predictions replace unknown labels
        self.task.place(self)

    def setup(self, stage: str) -> None:
        """Divide the trainer's epochs into phases, and find the parameters that each one trains."""
        if stage != "fit":
            return
        if self.trainer.max_epochs < 0:
            how = "Trainer(max_epochs=…), and max_steps=… where these cut the last"
            raise UserError(f"phases and learning rate follow the trainer's epochs: {how}")
        data = self.trainer.datamodule
        self.strategy.check_mixed(getattr(data, "mixes", False))
        self._fill_labels(getattr(data, "teacher_answers", False))
        self.writing = getattr(data, "writing", None) if self.teacher is not None else None
        device = self.trainer.strategy.root_device
        if self.teacher is not None and self.teacher.setup(device):
            self.to(device)
        prepare_terms(self)
        self.phases = self.strategy.plan(self.trainer.max_epochs)
        self.rates = {phase: phase.recipe(self.recipe) for phase in self.phases}
        self._reachable = {phase: reachable_parameters(self, phase) for phase in self.phases}
        if self.recipe.optimizer == "dot":
            options = {"clip": self.trainer.gradient_clip_val or None, "precision": self.trainer.precision}
            Recipe.of(vars(self.recipe) | options)  # a plain Trainer may have options that dot does not support
            self._shared = {phase: shared_parameters(self, phase) for phase in self.phases}
        self._enter(self.phases[0])

    def _fill_labels(self, hidden: bool) -> None:
        """Replace labels that the data hide by the teacher's predictions; raises UserError without a teacher."""
        self.pseudo_labels = hidden
        if hidden and self.teacher is None:
            raise UserError("labels are unknown, and no teacher answers for them: data.labels=all data.labelled=1.0")
        needs = self.strategy.needs("teacher")
        if hidden and "logits" not in needs:
            self.teacher.request(needs | {"logits"})

    def teardown(self, stage: str) -> None:
        """End the teacher's fit."""
        if self.teacher is not None:
            self.teacher.teardown()

    def _taken(self, batch: Any, batch_idx: int) -> Batch:
        """A Batch as it is, or what a plain loader yields; raises UserError for what no term, or no metric, can take."""
        if isinstance(batch, Batch):
            return batch
        batch = self.task.as_batch(batch, self.student.info.outputs, look=self._looks(batch_idx))
        if batch.labels.is_floating_point():
            if not self.trainer.training:
                raise UserError("a model is judged by one class number for each sample: validate without mixed samples")
            self.strategy.check_mixed(True)
        return batch

    def _looks(self, batch_idx: int) -> bool:
        """Whether the host looks at values in this step; on other devices than the CPU it then waits for them."""
        return self.device.type == "cpu" or batch_idx % CHECK_EVERY == 0

    def example_batch(self, num_views: int = 1, labels: Tensor | None = None) -> Batch:
        """Two example samples, as `Task.example_batch`, which the teacher can read too."""
        batch = self.task.example_batch(self.student, num_views, labels)
        if self.teacher is None:
            return batch
        return self.task.with_teacher(batch, self.student.info, self.teacher.info)

    def losses(self, batch: Batch, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The weighted loss of each named term."""
        terms = {name: self.strategy.terms[name] for name in names}
        batch = replace(batch, inputs=wanted_views(batch, terms, self.task))
        student = [self.extractors[0](**view) for view in batch.inputs]
        teacher = [SimpleNamespace()] * len(student)
        reads = any("teacher." in need for term in terms.values() for need in term.needs)
        if self.teacher is not None and (reads or self.pseudo_labels):
            with self.teacher_timer(len(batch.inputs) * len(batch)):
                teacher = self.teacher(self.for_teacher(batch))
        with torch.autocast(batch.index.device.type, enabled=False):
            return term_losses(terms, student, teacher, self.seen(batch, teacher), task=self.task)

    def for_teacher(self, batch: Batch) -> Batch:
        """The batch as the teacher reads it: its own tokens where they are others, no labels if it predicts them."""
        if batch.teacher_inputs is not None:
            batch = replace(batch, inputs=batch.teacher_inputs, teacher_inputs=None)
        return replace(batch, targets={}) if self.pseudo_labels else batch

    def seen(self, batch: Batch, teacher: list[SimpleNamespace]) -> SimpleNamespace:
        """The parts of a batch that terms may read, with all labels (N, …) known.

        `batch_rows` is the mean number of labels of the batches of the optimiser step, and `step_labels` are the labels of
        all of them, with one class each; None counts each batch alone. `written` says which labels the student has written,
        `pairs` and `batch_pairs` are a batch's with two tokenizers, and the mean of `Batch.paired`.
        """
        labels = pseudo_label(batch.labels, teacher[0].logits) if self.pseudo_labels else batch.labels
        step = None if batch.step_rows is None else batch.step_rows / self.trainer.accumulate_grad_batches
        of_step = (
            None if batch.step_labels is None or labels.is_floating_point() else batch.step_labels.to(labels.device)
        )
        return SimpleNamespace(
            labels=labels,
            index=batch.index,
            views=batch.inputs,
            written=batch.targets.get("written"),
            pairs=batch.targets.get("pairs"),
            batch_pairs=batch.paired
            if batch.step_pairs is None
            else batch.step_pairs / self.trainer.accumulate_grad_batches,
            batch_rows=step,
            step_labels=of_step,
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set rate and seed by (seed, step, rank) alone, so that a resumed run repeats the unbroken one."""
        self._set_rate(batch_idx)
        batches = self.trainer.num_training_batches
        step = self.current_epoch * batches + batch_idx
        before = self.before and self.before * batches
        for term in self.strategy.terms.values():
            term.set_step(max(step - before, 0), self.all_batches - before)
        torch.manual_seed(((self.seed * 1_000_003 + step) * 4099 + self.global_rank) % 2**63)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        batch = on_policy(self, self._taken(batch, batch_idx), batch_idx)
        losses = self.losses(batch, self.phase.terms)
        total = torch.stack(list(losses.values())).sum()
        now = {name: value.detach() for name, value in ({"loss": total} | losses).items()}
        for name, value in now.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._steps += 1
        self._step_learning.add(losses)
        every = self.trainer.log_every_n_steps
        if self.trainer.loggers and every and (self.trainer.global_step + 1) % every == 0:  # when Lightning writes
            self.log_dict({f"step/{name}": value for name, value in now.items()})
        if self._looks(batch_idx):
            finite.check_losses(self, self._sums, batch)
        self._task_losses = [loss for name, loss in losses.items() if self.strategy.terms[name].kind == "task"]
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients; dot first splits those of the parameters that both kinds of terms reach."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        if isinstance(optimizer, DOT) and self._shared[self.phase]:
            optimizer.split(loss, self._task_losses, self._shared[self.phase])
        self._task_losses = []  # they hold the graph
        super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a gradient that is not finite reaches the weights; in float16 the loss scaler skips such a step."""
        if self._looks(self.trainer.global_step) and self.trainer.precision != "16-mixed":
            finite.check_gradient(self)

    def optimizer_step(self, epoch: int, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Update the student, then what follows it (terms, its moving average), before any callback saves the state."""
        super().optimizer_step(epoch, batch_idx, *args, **kwargs)
        done = epoch + (batch_idx + 1) / self.trainer.num_training_batches
        self._step_learning.end(done / self.length)
        if self.teacher is not None:
            self.teacher.after_step(self.student)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean of every term, and its phase."""
        finite.check_losses(self, self._sums)
        self.log_dict({f"train/{name}": value for name, value in self.mean_losses().items()}, sync_dist=True)
        self.log_dict(self.numbered)
        self._sums, self._steps = {}, 0

    def mean_losses(self) -> dict[str, Tensor]:
        """The mean of the loss and of every weighted term over this epoch's steps so far."""
        return {name: value / max(self._steps, 1) for name, value in self._sums.items()}

    def on_validation_epoch_start(self) -> None:
        """Assemble the deployed model, once for all batches."""
        self._validated = [self.deployed()]  # in a list it is no submodule: its parts are registered already

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics with the deployed model."""
        self._measure(batch, batch_idx, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The same on test samples."""
        self._measure(batch, batch_idx, "test")

    def _measure(self, batch: Any, batch_idx: int, split: str) -> None:
        batch = self._taken(batch, batch_idx)
        logits = self._validated[0].outputs(**self.task.arrange(batch.inputs[0]))
        self.task.update(self.metrics, logits, batch)
        figures = {f"{split}/{name}": metric for name, metric in self.metrics.items() if metric.update_called}
        self.log_dict(figures, on_epoch=True, batch_size=len(batch), prog_bar=True)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The deployed model's logits (N, …, outputs) of its inputs, e.g. of images (N, C, H, W) in [0, 1]."""
        return self.deployed()(*inputs, **named)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The deployed model's logits of a batch, or of its inputs alone."""
        return self(batch) if isinstance(batch, Tensor) else self(**self._taken(batch, batch_idx).inputs[0])

    def deployed(self) -> Model:
        """The model to validate, count and export: the student, with the parts that terms add."""
        model = self.student
        for term in self.strategy.terms.values():
            model = term.deploy(model, self.teacher)
        return model

    def release(self) -> None:
        """Remove the hooks from all networks."""
        for extractor in self.extractors:
            extractor.remove()
        if self.teacher is not None:
            self.teacher.release()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser over student and connectors in all phases; `on_train_batch_start` sets its rate."""
        return make_optimizer(self.recipe, self.trainable)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a frozen teacher, which has its own file, and publish its outputs so far.

        Raises UserError where the student's weights are not finite: the checkpoint before stays.
        """
        finite.check_weights(self)
        checkpoint["losses"] = (self._sums, self._steps)
        if self.teacher is None:
            return
        self.teacher.flush()
        if self.teacher.frozen:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the frozen teacher's tensors to the checkpoint, so that loading stays strict."""
        self._sums, self._steps = checkpoint.get("losses", ({}, 0))
        if self.teacher is not None and self.teacher.frozen:
            live = {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
            checkpoint["state_dict"] = live | checkpoint["state_dict"]
