"""Small strategies, batches, modules and fits that the tests of training and of the methods share."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from distillab import Distillation
from distillab.commands.composition import conf_dir
from distillab.core.stopping import Stopped
from distillab.data.batch import Batch
from distillab.data.images.image_batch import ImageBatch
from distillab.models.image_model import ImageModel
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.strategies.strategy import Strategy, shipped
from distillab.training.callbacks import StopCleanly
from distillab.training.term_inputs import prepare_terms
from helpers.two_tokens import needs_token, two_tokens

SHAPE = (1, 8, 8)
CONFIGS = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))


def strategy(*names: str) -> dict:
    """Files of conf/strategy, the terms of all together."""
    files = [shipped([name]) for name in names]
    return {name: node for file in files for name, node in file.items()}


def small(seed: int = 0, depth: int = 8, classes: int = 10) -> CifarResNet:
    """A network of the digits' shape; the fixture `network` gives the same."""
    torch.manual_seed(seed)
    return CifarResNet(depth, num_classes=classes, in_channels=1)


def models(network, *depths: int) -> list[ImageModel]:
    """Image models of these depths, each with its own seed."""
    return [ImageModel(network(seed, depth), SHAPE, f"resnet{depth}") for seed, depth in enumerate(depths)]


def confident(seed: int = 1, depth: int = 14) -> CifarResNet:
    """A teacher that is sure of what it says, as a trained one: some terms pass over doubtful samples."""
    teacher = small(seed, depth)
    teacher.fc.weight.data *= 100
    return teacher


def make_batch(*views: Tensor, labels: Tensor | None = None) -> Batch:
    """A batch of these views of its images; without labels sample i is of class i."""
    index = torch.arange(len(views[0]))
    return ImageBatch.of(list(views), index if labels is None else labels, index)


def make_images(size: int = 8, seed: int = 0) -> Tensor:
    """Images (size, *SHAPE) in [0, 1], the same for the same seed."""
    return torch.rand(size, *SHAPE, generator=torch.Generator().manual_seed(seed))


def distillation(parts, student=None, teacher=None, **arguments) -> Distillation:
    """A small student and a deeper teacher with a strategy: its terms, or a file of conf/strategy."""
    parts = strategy(parts) if isinstance(parts, str) else parts
    student = student or (two_tokens() if needs_token(parts) else small())
    teacher = small(1, 14) if teacher is None else teacher
    return Distillation(student, teacher, parts, input_shape=SHAPE, **arguments)


def trainer(epochs: int = 2, **arguments) -> L.Trainer:
    """Lightning's, on the CPU and quiet."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    return L.Trainer(max_epochs=epochs, use_distributed_sampler=False, **quiet | arguments)


def weights(module) -> dict[str, Tensor]:
    """Copies of all that a module learns and saves."""
    return {k: v.clone() for k, v in module.state_dict().items() if not k.startswith("teacher.")}


def assert_equal(one, other) -> None:
    """Two states, bit for bit."""
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class DropoutNet(nn.Module):
    """A student that draws random numbers."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.layer2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class Watch(L.Callback):
    """Notes whether the teacher was in training mode at every step."""

    def __init__(self):
        self.modes = []

    def on_train_batch_end(self, trainer, module, *_):
        if module.teacher is not None:
            self.modes.append(any(m.training for m in module.teacher.modules()))


@dataclass
class Watched:
    """A fit and what was there before it.

    Attributes:
        start: the module's weights before.
        before: the teacher's state before.
        after: the module's weights afterwards.
        modes: what `Watch` noted.
    """

    module: Distillation
    engine: L.Trainer
    teacher: nn.Module
    start: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    modes: list[bool]


def watched_fit(make, data, epochs: int) -> Watched:
    """Fit what `make(teacher)` gives, and keep what was there before."""
    teacher, watch = small(1, 14), Watch()
    before, module = copy.deepcopy(teacher.state_dict()), make(teacher)
    start, engine = weights(module), trainer(epochs, callbacks=[watch])
    engine.fit(module, datamodule=data(module))
    return Watched(module, engine, teacher, start, before, weights(module), watch.modes)


def stopped_and_resumed(make, data, stop_at: int, epochs: int, folder: Path, **how) -> dict[str, Tensor]:
    """Weights of a fit that was stopped after a step and resumed by a fresh module."""

    class Ask(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            stop.asked = trainer.global_step + 1 >= stop_at

    stop = StopCleanly(folder / "last.ckpt")
    broken = make()
    with pytest.raises(Stopped):
        trainer(epochs, callbacks=[Ask(), stop], **how).fit(broken, datamodule=data(broken))
    torch.manual_seed(99)
    resumed = make()
    trainer(epochs, **how).fit(resumed, datamodule=data(resumed), ckpt_path=folder / "last.ckpt", weights_only=True)
    return weights(resumed)


def stop_and_resume(make, data, stop_at: int, epochs: int, folder: Path, **how):
    """Weights of an unbroken fit, and of one that was stopped after a step and resumed by a fresh module."""
    whole = make()
    trainer(epochs, **how).fit(whole, datamodule=data(whole))
    return weights(whole), stopped_and_resumed(make, data, stop_at, epochs, folder, **how)


def seen_batch(data, module) -> Batch:
    """A batch as a step sees it, and the module after it has looked at the data."""
    module.trainer = trainer(1, callbacks=[])
    module.trainer.datamodule = data
    prepare_terms(module)
    batch = next(iter(data.train_dataloader()))
    return data.on_after_batch_transfer(batch)


def taught(parts: dict) -> dict:
    """A strategy without the labels, which pull elsewhere; one of phases as it is."""
    if "phases" in parts:
        return parts
    return {key: node for key, node in parts.items() if Strategy.of({key: node}).terms[key].kind == "distil"}


def own_loss(module, batch: Batch) -> Tensor:
    """What the distilling terms say of a batch."""
    torch.manual_seed(0)
    module.train()  # after so few steps the running statistics of BatchNorm are not the batch's
    for term in module.strategy.terms.values():
        term.set_epoch(0, 1)
    with torch.no_grad():
        names = tuple(n for n, t in module.strategy.terms.items() if t.kind == "distil")
        return sum(module.losses(batch, names).values())


def assert_every_term_reaches_the_student(module, batch: Batch) -> None:
    """The gradient of each term that reads the student is finite and not 0."""
    reading = [
        n for n, term in module.strategy.terms.items() if any(need.startswith("student.") for need in term.needs)
    ]
    for term, loss in module.losses(batch, tuple(reading)).items():
        gradients = torch.autograd.grad(loss, list(module.student.parameters()), allow_unused=True, retain_graph=True)
        total = sum(g.abs().sum() for g in gradients if g is not None)
        assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(total) and total > 0, term


def ordered_teachers() -> tuple[ImageModel, ImageModel]:
    """One teacher twice: as it is, and with its outputs in another order, which it says."""
    plain, order = small(1, 14), list(range(9, -1, -1))
    turned = copy.deepcopy(plain)
    turned.fc.weight.data, turned.fc.bias.data = plain.fc.weight.data[order], plain.fc.bias.data[order]
    return ImageModel(plain, SHAPE), ImageModel(turned, SHAPE, class_order=order)


def assert_learns(name: str, part) -> Distillation:
    """A strategy's term of its own name trains the student's first stage and a part: module → parameters."""
    module = distillation(name)
    loss = module.losses(make_batch(make_images()), (name,))[name]
    assert loss > 0
    for parameters in (list(module.student.net.layer1.parameters()), list(part(module))):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        assert all(torch.isfinite(g).all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0
    assert not any(p.requires_grad for p in module.teacher.parameters())
    return module


def assert_every_parameter_learns(name: str) -> None:
    """A strategy's term of its own name reaches the student and every parameter of its own."""
    module = distillation(name)
    loss = module.losses(make_batch(make_images(6), labels=torch.arange(6) % 3), (name,))[name]
    own = list(module.strategy.terms[name].parameters())
    students = list(module.student.parameters())
    gradients = torch.autograd.grad(loss, students + own, allow_unused=True)
    assert sum(g.abs().sum() for g in gradients[: len(students)] if g is not None) > 0
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[len(students) :])
