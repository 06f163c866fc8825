"""KL divergences from a mixture (skew_kl, skew_reverse_kl)."""

import math

import pytest
import torch
from helpers.divergences import DivergenceTester, cases, mixture
from helpers.numbers import draw, kl

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.skew_kl import SkewKL, SkewReverseKL

ARGUMENTS = [{"temperature": 2.0, "alpha": 0.4}, {}]


class TestSkewKL(DivergenceTester):
    configs = ("skew_kl", "skew_reverse_kl")
    cases = {
        "skew_kl": cases(lambda p, q, alpha=0.1: kl(p, mixture(p, q, alpha)), *ARGUMENTS),
        "skew_reverse_kl": cases(lambda p, q, alpha=0.1: kl(q, mixture(q, p, alpha)), *ARGUMENTS),
    }
    mutations = [
        (
            "skew_kl",
            "log_mixture(log_p, log_q, alpha)",
            "log_mixture(log_q, log_p, alpha)",
            "the share goes to the student",
        ),
        ("skew_kl", "temperature**2 * kl(log_p", "kl(log_p", "T² dropped"),
        ("skew_reverse_kl", "log_mixture(log_q, log_p, alpha)", "log_mixture(log_p, log_q, alpha)", "shares exchanged"),
        (
            "skew_reverse_kl",
            "log_mixture(log_q, log_p, alpha)",
            "log_mixture(log_q, log_p, alpha).detach()",
            "the mixture held constant",
        ),
        ("skew_reverse_kl", "temperature**2 * kl(log_q", "kl(log_q", "T² dropped"),
    ]


def test_without_skew_they_are_the_two_divergences():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.skew_kl(s, t, 1e-9).item() == pytest.approx(functional.kd(s, t, 1.0).item())
    assert functional.skew_reverse_kl(s, t, 1e-9).item() == pytest.approx(functional.reverse_kl(s, t).item())


@pytest.mark.parametrize("name", ["skew_kl", "skew_reverse_kl"])
def test_models_that_agree_on_nothing_cost_the_log_of_the_share(name):
    s, t = torch.tensor([[100.0, -100.0]]).double(), torch.tensor([[-100.0, 100.0]]).double()
    assert getattr(functional, name)(s, t, 0.1).item() == pytest.approx(-math.log(0.1))


@pytest.mark.parametrize("term", [SkewKL, SkewReverseKL])
def test_a_skew_of_0_or_1_is_refused(term):
    for alpha in (0.0, 1.0):
        with pytest.raises(UserError, match=r"alpha must be a number (above 0|below 1), got"):
            term(alpha=alpha)
        with pytest.raises(UserError, match="alpha must be a number above 0"):
            term.loss(draw(2, 3), draw(2, 3), alpha)
