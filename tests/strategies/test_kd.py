"""The distance between softened probabilities (kd)."""

import math

import pytest
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, NO_DETACH, MethodTester
from helpers.numbers import draw, softmax

from distillab import functional
from distillab.core.errors import UserError


def reference_kd(s, t, temperature):
    """Row by row, class by class."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = [sum(a * (math.log(a) - math.log(b)) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    return temperature**2 * sum(rows) / len(rows)


class TestKD(MethodTester):
    configs = ("kd", "kd_tuned")
    cases = {
        "kd": [
            Case(reference_kd, **LOGITS, rest={"temperature": 4.0}, extreme=True),
            Case(reference_kd, **LOGITS, rest={"temperature": 1.0}),
        ],
    }
    mutations = [
        ("kd", "temperature**2 * F.kl_div", "F.kl_div", "T² dropped"),
        ("kd", ".sum(-1)", ".mean(-1)", "mean over classes"),
        ("kd", "F.kl_div(log_student, log_teacher", "F.kl_div(log_teacher, log_student", "KL turned round"),
        ("kd", *NO_DETACH),
    ]


def test_kd_of_a_teacher_from_itself_is_zero():
    assert functional.kd(draw(5, 7), draw(5, 7)).item() == pytest.approx(0, abs=1e-14)


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="must"):
        functional.kd(draw(2, 3), draw(3, 4))
