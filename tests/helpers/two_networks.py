"""The student and the teacher that two processes share, and what each of them sees of a batch."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import lightning as L
import torch
from torch import nn

from distillab import Distillation
from distillab.data.images.image_batch import ImageBatch
from distillab.models.image_model import ImageModel
from distillab.strategies.strategy import Strategy
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.term_inputs import only
from helpers.fits import SHAPE, make_batch, small, strategy
from helpers.two_tokens import needs_token, two_tokens

BATCH, EQUAL, UNEQUAL = 6, (3, 3), (4, 2)
PLAIN_SGD = {"optimizer": "sgd", "lr": 0.05, "schedule": "constant"}


@cache
def terms_that(name, attribute):
    """The terms of a strategy that have it: `global_batch` compare samples, `rowwise` are means over them."""
    return tuple(key for key, term in Strategy.of(strategy(name)).terms.items() if getattr(term, attribute))


class PlainNet(nn.Module):
    """A student without BatchNorm, its stages shaped like the teacher's."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU())
        self.layer3 = nn.Sequential(nn.Conv2d(32, 64, 3, 2, padding=1), nn.ReLU())
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


@cache
def models(tokens=False):
    """Student and teacher, once: to describe them takes longer than to train them a step. Or a student with two tokens."""
    torch.manual_seed(0)
    return ImageModel(two_tokens() if tokens else PlainNet(), SHAPE), ImageModel(small(1), SHAPE)


@contextmanager
def distillation(name, source=lambda teacher: teacher, **arguments):
    """A module in float32 of the two models, which the next one finds as they were; `source` may wrap the teacher."""
    student, teacher = models(needs_token(strategy(name)))
    student.float().requires_grad_(True).zero_grad()
    first = {key: value.clone() for key, value in student.state_dict().items()}
    module = Distillation(student, source(FrozenTeacher(teacher.float())), strategy(name), **arguments)
    try:
        yield module
    finally:
        module.release()
        student.load_state_dict(first)


class StepGradients(L.Callback):
    """Notes the student's gradient at every optimiser step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.append({key: p.grad.clone() for key, p in module.student.named_parameters()})


def samples():
    """Twelve of them, all that the training data have."""
    generator = torch.Generator().manual_seed(1)
    views = [torch.rand(2 * BATCH, *SHAPE, generator=generator) for _ in range(2)]
    return make_batch(*views, labels=torch.arange(2 * BATCH) * 7 % 5)


def rows(batch, first, end, dtype=torch.float32):
    return ImageBatch.of(
        [view[first:end].to(dtype) for view in batch.pixels], batch.labels[first:end], batch.index[first:end]
    )


def part(batch, split, rank):
    """This process's rows of a batch; all of them where there is one process."""
    first = sum(split[:rank]) if rank is not None else 0
    return rows(batch, first, first + split[rank] if rank is not None else len(batch), batch.pixels[0].dtype)


def show_data(module, rank):
    """Let the terms look at the training data, each process at its part of the images."""
    everything = samples()
    mine = part(everything, (BATCH, BATCH), rank)

    def teacher(term):
        yield only(term, "teacher", module.teacher(replace(mine, inputs=mine.inputs[:1]))[0]), mine

    for term in module.strategy.terms.values():
        term.prepare(everything.labels, lambda term=term: teacher(term))


def in_double(module):
    """Where two ways can be told apart, and without what depends on how a batch is cut: BatchNorm, dropout."""
    module.double().train()
    for layer in module.strategy.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            layer.eval()
