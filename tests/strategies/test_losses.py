"""The first losses against a second way; that none is untested; schedules."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.loss_checks import CHECKS, Case, draw, softmax
from torch.nn import functional as F

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.attention import AttentionTransfer
from distillab.strategies.base import Schedule


def reference_kd(s, t, temperature):
    """Row by row, class by class."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = [sum(a * (math.log(a) - math.log(b)) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    return temperature**2 * sum(rows) / len(rows)


def reference_attention(F_s, F_t, p):
    """Sample by sample; the larger map is pooled by hand, a block at a time."""
    ratio = F_s.shape[-1] // F_t.shape[-1]
    side = F_t.shape[-1]
    total = 0.0
    for one, other in zip(F_s, F_t, strict=True):
        pooled = one.reshape(one.shape[0], side, ratio, side, ratio).mean((2, 4))
        maps = [((x if p in (1, 2, 3) else np.abs(x)) ** p).mean(0).ravel() for x in (pooled, other)]
        a, b = (m / np.sqrt((m**2).sum()) for m in maps)
        total += ((a - b) ** 2).sum()
    return total / (len(F_s) * side * side)


LOGITS = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1)}}
CASES = {
    "kd": [
        Case(reference_kd, **LOGITS, rest={"temperature": 4.0}, extreme=True),
        Case(reference_kd, **LOGITS, rest={"temperature": 1.0}),
    ],
    "hint": [
        Case(
            lambda f_s, f_t: ((f_s - f_t) ** 2).mean(),
            student={"f_s": draw(2, 3, 4, 4)},
            teacher={"f_t": draw(2, 3, 4, 4, seed=1)},
        )
    ],
    "attention_transfer": [
        Case(
            reference_attention,
            student={"F_s": draw(3, 5, 8, 8)},
            teacher={"F_t": draw(3, 2, 4, 4, seed=1)},
            rest={"p": p},
        )
        for p in (1, 2, 3, 2.5)
    ],
}
# Function, what is written there, what a slip would write instead, what the slip is.
MUTATIONS = [
    ("kd", "temperature**2 * F.kl_div", "F.kl_div", "T² dropped"),
    ("kd", ".sum(-1)", ".mean(-1)", "mean over classes"),
    ("kd", "F.kl_div(log_student, log_teacher", "F.kl_div(log_teacher, log_student", "KL turned round"),
    ("kd", "s, t = widened(s, t)", "s, t = widened(s, t)[0], t", "a gradient to the teacher"),
    ("hint", "*widened(f_s, f_t)", "widened(f_s, f_t)[0], f_t", "a gradient to the teacher"),
    ("hint", "return F.mse_loss(", "return F.l1_loss(", "absolute, not squared"),
    ("attention_transfer", ".pow(p).mean(1)", ".pow(p).sum(1).sqrt()", "root of the sum"),
    ("attention_transfer", "F_t.detach()", "F_t", "a gradient to the teacher"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


def test_every_function_is_covered_and_mutated():
    files = [importlib.import_module(path.stem) for path in Path(__file__).parent.glob("test_losses*.py")]
    assert {name for file in files for name in file.CASES} == set(functional.__all__)
    assert {name for file in files for name, *_ in file.MUTATIONS} == set(functional.__all__)


def test_kd_of_a_teacher_from_itself_is_zero():
    assert functional.kd(draw(5, 7), draw(5, 7)).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_shapes_that_differ_are_refused(name):
    with pytest.raises(UserError, match="must"):
        getattr(functional, name)(draw(2, 3), draw(3, 4))


def test_a_power_whose_gradient_is_infinite_at_zero_is_refused():
    for make in (lambda p: functional.attention_transfer(draw(2, 3, 4, 4), draw(2, 3, 4, 4), p), AttentionTransfer):
        with pytest.raises(UserError, match=r"p must be a number from 1, got 0\.5"):
            make(p=0.5)


def second_derivatives(function, x):
    """Of the function's value along ones, by two backward passes."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_relu_makes_zero_has_second_derivatives(dtype):
    """Zeros among the activations, a dead channel, a sample of zeros, and logits that are equal."""
    student, teacher = draw(3, 4, 4, 4).relu().to(dtype), draw(3, 4, 4, 4, seed=1).relu().to(dtype)
    for function in (functional.attention_transfer, functional.nst):
        for dead in (np.s_[0, 0], np.s_[0], np.s_[:0]):
            maps = student.clone()
            maps[dead] = 0
            assert torch.isfinite(second_derivatives(lambda x, f=function: f(x, teacher), maps)).all()
    attention = second_derivatives(lambda x: functional.attention_transfer(x, teacher), student)
    maps = [F.normalize(x.square().mean(1).flatten(1)) for x in (student, teacher)]
    squares = second_derivatives(
        lambda x: (F.normalize(x.square().mean(1).flatten(1)) - maps[1]).square().mean(), student
    )
    torch.testing.assert_close(attention, squares)
    equal = draw(4, 5).to(dtype)
    equal[0] = 1
    for logits in (equal, equal[:1].expand(4, 5)):
        assert torch.isfinite(
            second_derivatives(lambda x: functional.dist(x, draw(4, 5, seed=1).to(dtype)), logits)
        ).all()


def test_schedules():
    assert [Schedule(2, warmup=4)(e, 10) for e in (0, 1, 3, 9)] == [0.5, 1.0, 2.0, 2.0]
    assert [Schedule(2, start=2, until=4)(e, 10) for e in range(5)] == [0, 0, 2, 2, 0]
    assert [round(Schedule(1, cosine=4)(e, 10), 6) for e in (0, 2, 4, 8)] == [1, 0.5, 0, 0]
    assert [round(Schedule(1, hold=3, cosine=2)(e, 10), 6) for e in range(6)] == [1, 1, 1, 1, 0.5, 0]


def test_a_schedule_in_shares_keeps_its_form_at_every_budget():
    published, share = Schedule(1, warmup=20, hold=130, cosine=90), Schedule(1, warmup=0.0833, hold=0.542, cosine=0.375)
    assert [share(e, 240) for e in range(240)] == [published(e, 240) for e in range(240)]
    short = [share(e, 12) for e in range(12)]
    assert short[:7] == [1.0] * 7 and short[-1] < 0.25, "it rises and falls within twelve epochs too"
    assert Schedule(1, start=0.5)(3, 8) == 0 and Schedule(1, start=0.5)(4, 8) == 1
