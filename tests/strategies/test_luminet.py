"""Logits standardised over the batch (luminet)."""

import math

import numpy as np
import pytest
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, NO_DETACH, MethodTester
from helpers.numbers import deviation, draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError


def reference_luminet(s, t, temperature):
    scaled = []
    for z in (s, t):
        columns = [
            (z[:, c] - z[:, c].sum() / len(z)) / math.sqrt(deviation(z[:, c], 0) ** 2 + 1e-5) for c in range(z.shape[1])
        ]
        scaled.append(np.stack(columns, 1))
    return np.mean([kl(softmax(b / temperature), softmax(a / temperature)) for a, b in zip(*scaled, strict=True)])


class TestLumiNet(MethodTester):
    configs = ("luminet",)
    cases = {
        "luminet": [Case(reference_luminet, **LOGITS, rest={"temperature": T}, extreme=True) for T in (4.0, 1.0)],
    }
    mutations = [
        ("luminet", *NO_DETACH),
        ("luminet", "correction=0", "correction=1", "unbiased variance"),
        ("luminet", "z.var(0, correction=0)", "z.detach().var(0, correction=0)", "a variance without gradient"),
        ("luminet", "kl(log_teacher, log_student)", "temperature**2 * kl(log_teacher, log_student)", "T² added"),
        ("luminet", "kl(log_teacher, log_student)", "kl(log_student, log_teacher)", "KL turned round"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="s and t must be logits"):
        functional.luminet(draw(2, 3), draw(3, 3))


def test_the_students_scale_does_not_count():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.luminet(3 * s + 1, t).item() == pytest.approx(functional.luminet(s, t).item(), rel=1e-3)
    assert functional.luminet(s[:1], t[:1]).item() == 0
