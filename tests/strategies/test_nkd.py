"""Normalised KD of the classes other than the target (nkd)."""

import math

import numpy as np
import pytest
from helpers.fits import distillation, small
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import mean_of_rows, softmax

from distillab.core.errors import UserError


def nkd_row(s, t, y, gamma, temperature):
    p, q = (softmax(np.delete(z, y) / temperature) for z in (t, s))
    rest = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return -softmax(t)[y] * math.log(softmax(s)[y]) + gamma * temperature**2 * rest


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestNKD(LogitsTester):
    configs = ("nkd",)
    cases = {
        "nkd": cases(mean_of_rows(nkd_row), {"gamma": 1.5, "temperature": 1.0}, {"gamma": 3.5, "temperature": 3.0}),
    }
    mutations = [
        ("nkd", *NO_DETACH),
        ("nkd", "temperature**2 * rest", "rest", "T² dropped"),
        ("nkd", "t.softmax(-1).gather", "(t / temperature).softmax(-1).gather", "the target softened too"),
        (
            "nkd",
            "(others(t, y) / temperature).softmax(-1)",
            "others((t / temperature).softmax(-1), y)",
            "not renormalised",
        ),
    ]


def test_two_classes_are_refused():
    term = {"_target_": "distillab.strategies.nkd.NKD"}
    with pytest.raises(UserError, match=r"strategy\.x: compares the classes other than the target.*choose strategy=kd"):
        distillation({"x": term}, small(classes=2), small(classes=2))
