"""Decoupled KD: the target class and the others (dkd)."""

import numpy as np
import pytest
import torch
from helpers.fits import distillation, small
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import draw, kl, mean_of_rows, softmax, target_and_rest

from distillab import functional
from distillab.core.errors import UserError


def dkd_row(s, t, y, alpha, beta, temperature):
    s, t = s / temperature, t / temperature
    rest = kl(softmax(np.delete(t, y)), softmax(np.delete(s, y)))
    return temperature**2 * (alpha * kl(target_and_rest(t, y), target_and_rest(s, y)) + beta * rest)


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestDKD(LogitsTester):
    configs = ("dkd",)
    cases = {
        "dkd": cases(
            mean_of_rows(dkd_row),
            {"alpha": 1.0, "beta": 8.0, "temperature": 4.0},
            {"alpha": 3.0, "beta": 0.5, "temperature": 1.0},
        ),
    }
    mutations = [
        ("dkd", *NO_DETACH),
        ("dkd", "temperature**2 * kl", "kl", "T² dropped"),
        (
            "dkd",
            "kl(log_pair(t / temperature, y), log_pair(s / temperature, y))",
            "kl(log_pair(s / temperature, y), log_pair(t / temperature, y))",
            "KL turned round",
        ),
        ("dkd", "kd_rows(others(s, y), others(t, y)", "kd_rows(s, t", "the target left among the others"),
    ]


def test_two_classes_are_refused():
    term = {"_target_": "distillab.strategies.dkd.DKD"}
    with pytest.raises(UserError, match=r"strategy\.x: compares the classes other than the target.*choose strategy=kd"):
        distillation({"x": term}, small(classes=2), small(classes=2))
    with pytest.raises(UserError, match="3 classes or more, got 2"):
        functional.dkd(draw(4, 2), draw(4, 2), torch.tensor([0, 1, 0, 1]))
