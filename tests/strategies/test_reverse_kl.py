"""The KL divergence from the teacher to the student (reverse_kl)."""

import math

import pytest
import torch
from helpers.divergences import TURNED, DivergenceTester, cases
from helpers.numbers import draw, kl

from distillab import functional


class TestReverseKL(DivergenceTester):
    configs = ("reverse_kl",)
    cases = {"reverse_kl": cases(lambda p, q: kl(q, p), {"temperature": 3.0}, {})}
    mutations = [
        ("reverse_kl", *TURNED),
        ("reverse_kl", "temperature**2 * kl", "kl", "T² dropped"),
        (
            "reverse_kl",
            "kl(log_q, log_p)",
            "(log_q.exp().detach() * (log_q - log_p)).sum(-1)",
            "no gradient through the weights",
        ),
    ]


def test_it_is_kd_with_the_models_exchanged():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.reverse_kl(s, t).item() == pytest.approx(functional.kd(t, s, 1.0).item())


def test_two_classes():
    s, t = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert functional.reverse_kl(s, t).item() == pytest.approx(expected)
