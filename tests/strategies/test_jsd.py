"""The divergence of two models from their mixture (jsd)."""

import math

import pytest
import torch
from helpers.divergences import DivergenceTester, cases, mixture
from helpers.numbers import draw, kl, second_derivatives

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.jsd import JSD


def jensen_shannon(p, q, beta=0.5):
    m = mixture(p, q, beta)
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


class TestJSD(DivergenceTester):
    configs = ("jsd",)
    cases = {"jsd": cases(jensen_shannon, {"temperature": 2.0, "beta": 0.2}, {})}
    mutations = [
        ("jsd", "log_mixture(log_p, log_q, beta)", "log_mixture(log_q, log_p, beta)", "the share goes to the student"),
        (
            "jsd",
            "(beta * kl(log_p, log_m) + (1 - beta) *",
            "((1 - beta) * kl(log_p, log_m) + beta *",
            "shares exchanged",
        ),
        ("jsd", "temperature**2 * (beta", "(beta", "T² dropped"),
    ]


@pytest.mark.parametrize("beta", [1e-7, 1 - 1e-7])
def test_near_an_end_it_is_that_share_of_a_kl(beta):
    s, t = draw(5, 7), draw(5, 7, seed=1)
    small, of = (beta, functional.kd(s, t, 1.0)) if beta < 0.5 else (1 - beta, functional.reverse_kl(s, t))
    assert functional.jsd(s, t, beta).item() / small == pytest.approx(of.item(), rel=1e-5)


def test_models_that_agree_on_nothing_cost_the_entropy_of_the_share():
    s, t = torch.tensor([[100.0, -100.0]]).double(), torch.tensor([[-100.0, 100.0]]).double()
    expected = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    assert functional.jsd(s, t, 0.3).item() == pytest.approx(expected)


def test_far_apart_models_have_a_second_derivative():
    s = torch.tensor([[200.0, -200.0, 3.0]])
    assert torch.isfinite(second_derivatives(lambda x: functional.jsd(x, -s), s)).all()


def test_a_share_that_a_schedule_sets_to_0_gives_0():
    term = JSD(beta={"value": 0.5, "start": 1})
    assert not term.rows(draw(3, 4), draw(3, 4, seed=1), None).any()
    term.set_epoch(1, 4)
    assert term.rows(draw(3, 4), draw(3, 4, seed=1), None).all()


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.5])
def test_a_share_at_an_end_or_beyond_is_refused(beta):
    with pytest.raises(UserError, match="beta must be a number above 0"):
        functional.jsd(draw(2, 3), draw(2, 3), beta)
    with pytest.raises(UserError, match=r"beta must be a number (above 0|below 1), got"):
        JSD(beta=beta)
