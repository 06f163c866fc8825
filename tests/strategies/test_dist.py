"""Correlations between and within classes (dist)."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import draw, second_derivatives, softmax

from distillab import functional
from distillab.strategies.dist import DIST


def pearson(a, b):
    a, b = a - sum(a) / len(a), b - sum(b) / len(b)
    return sum(a * b) / (math.sqrt(sum(a * a)) * math.sqrt(sum(b * b)) + 1e-8)


def reference_dist(s, t, beta, gamma, temperature):
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = 1 - np.mean([pearson(a, b) for a, b in zip(p, q, strict=True)])
    columns = 1 - np.mean([pearson(a, b) for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * columns)


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestDIST(LogitsTester):
    configs = ("dist",)
    cases = {
        "dist": cases(
            reference_dist,
            {"beta": 1.0, "gamma": 1.0, "temperature": 4.0},
            {"beta": 2.0, "gamma": 0.5, "temperature": 1.0},
            labels=False,
            refuses_one=True,
        ),
    }
    mutations = [
        ("dist", *NO_DETACH),
        ("dist", "1 - pearson(q, p).mean()", "1 + pearson(q, p).mean()", "an anti-loss"),
        ("dist", "pearson(q.T, p.T)", "pearson(q, p)", "rows twice"),
        ("dist", "temperature**2 * (beta", "(beta", "T² dropped"),
    ]


def test_dist_does_not_see_an_affine_change_of_probabilities():
    p = softmax(draw(5, 7).numpy())
    s = torch.from_numpy(np.log(0.5 * p + 0.5 / 7))
    assert functional.dist(s, torch.from_numpy(np.log(p))).item() == pytest.approx(0, abs=1e-6)


def test_dist_takes_a_last_batch_of_one_by_its_row_alone():

    outputs = SimpleNamespace(logits=draw(1, 7)), SimpleNamespace(logits=draw(1, 7, seed=1))
    alone = functional.dist(*(o.logits for o in outputs), gamma=0.0, temperature=4.0)
    assert DIST()(*outputs, SimpleNamespace()) == alone > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_second_derivatives(dtype):
    equal = draw(4, 5).to(dtype)
    equal[0] = 1
    for logits in (equal, equal[:1].expand(4, 5)):
        assert torch.isfinite(
            second_derivatives(lambda x: functional.dist(x, draw(4, 5, seed=1).to(dtype)), logits)
        ).all()
