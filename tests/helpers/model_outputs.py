"""What models look like to a term, and what they give it: stages, maps, embeddings, two views of logits."""

import math
from types import SimpleNamespace

import torch

from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Outputs
from helpers.numbers import draw, softmax


def info(*stages, embedding=6, classes=10, name="net"):
    """A model with stages of (channels, height, width); without an embedding it has no head."""
    stages = tuple(Stage(f"layer{i}", *shape) for i, shape in enumerate(stages))
    return FeatureInfo(name, stages, embedding, classes, "fc" if embedding else None)


SMALL, LARGE = info((4, 8, 8), (6, 4, 4)), info((5, 16, 16), (3, 2, 2), embedding=7)


def outputs(model, seed, batch=5):
    """Maps and embedding of a model, of one view."""
    maps = [draw(batch, s.channels, s.height, s.width, seed=seed + i).float() for i, s in enumerate(model.stages)]
    one = SimpleNamespace(stages=maps, preactivations=maps, embedding=draw(batch, model.embedding, seed=seed).float())
    for tensor in (*maps, one.embedding):
        tensor.requires_grad_()
    return Outputs([one])


def check_connectors_train(term, batch):
    """On maps of other sizes and any batch: all but biases get a gradient, the student's maps too, the teacher's none."""
    torch.manual_seed(0)
    term.connect(SMALL, LARGE)
    student, teacher = outputs(SMALL, 0, batch), outputs(LARGE, 9, batch)
    term(student, teacher, None).backward()
    missing = [name for name, p in term.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert all(name.endswith("bias") for name in missing), missing
    assert all(x.grad.abs().sum() > 0 for x in student.stages)
    assert all(x.grad is None for x in teacher.stages)


def two_views(seed, scale=1.0):
    """Logits of a weak and a strong view."""
    return Outputs([SimpleNamespace(logits=scale * draw(6, 4, seed=seed + view)) for view in (0, 1)])


STUDENT, TEACHER = two_views(0), two_views(2, scale=4.0)


def kd_of_row(s, t):
    """`kd` of one sample at temperature 4."""
    p, q = softmax(t.numpy() / 4), softmax(s.numpy() / 4)
    return 16 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
