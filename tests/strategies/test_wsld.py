"""Weighted soft labels (wsld)."""

import math

import numpy as np
import torch
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import draw, mean_of_rows, softmax

from distillab import functional


def wsld_row(s, t, y, temperature):
    ratio = -math.log(softmax(s)[y]) / (-math.log(softmax(t)[y]) + 1e-7)
    p, q = softmax(t / temperature), softmax(s / temperature)
    return temperature**2 * (1 - math.exp(-ratio)) * -sum(p * np.log(q))


def wsld_gradient(s, t, y, temperature):
    """With the weight of each sample held constant."""
    rows = []
    for one, other, label in zip(s, t, y, strict=True):
        weight = 1 - math.exp(math.log(softmax(one)[label]) / (-math.log(softmax(other)[label]) + 1e-7))
        rows.append(temperature * weight * (softmax(one / temperature) - softmax(other / temperature)))
    return np.stack(rows) / len(s)


# Sure of the labels: the weights are 1 to within finite differences, as they must be where they are held constant.
SURE = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1) + 4 * torch.eye(7)[LABELS]}}


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestWSLD(LogitsTester):
    configs = ("wsld",)
    cases = {
        "wsld": cases(mean_of_rows(wsld_row), {"temperature": 2.0}, logits=SURE)
        + cases(mean_of_rows(wsld_row), {"temperature": 2.0}, gradient=wsld_gradient),
    }
    mutations = [
        ("wsld", *NO_DETACH),
        ("wsld", "temperature**2 * weights", "weights", "T² dropped"),
        ("wsld", "student_ce / (teacher_ce", "teacher_ce / (student_ce", "the ratio turned round"),
        ("wsld", "s.detach(), t)", "s, t)", "a gradient through the weights"),
        ("wsld", "-torch.expm1(", "torch.exp(", "1 − dropped"),
    ]


def test_the_weights_of_wsld_carry_no_gradient():
    s, t = draw(5, 7).requires_grad_(), draw(5, 7, seed=1)
    functional.wsld(s, t, LABELS, 2.0).backward()
    for row, (one, other, y) in enumerate(zip(s.detach().numpy(), t.numpy(), LABELS, strict=True)):
        p, q = softmax(other / 2), softmax(one / 2)
        weight = wsld_row(one, other, y, 2.0) / -sum(4 * p * np.log(q))
        np.testing.assert_allclose(s.grad[row], 2 * weight * (q - p) / 5, rtol=1e-9)
