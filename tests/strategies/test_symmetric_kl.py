"""Both KL divergences (symmetric_kl)."""

import pytest
from helpers.divergences import DivergenceTester, cases
from helpers.numbers import draw, kl

from distillab import functional
from distillab.core.errors import UserError


def both(p, q, reverse_share=0.5):
    return (1 - reverse_share) * kl(p, q) + reverse_share * kl(q, p)


class TestSymmetricKL(DivergenceTester):
    configs = ("symmetric_kl",)
    cases = {"symmetric_kl": cases(both, {"temperature": 3.0, "reverse_share": 0.2}, {})}
    mutations = [
        (
            "symmetric_kl",
            "(1 - reverse_share) * kl(log_p, log_q) + reverse_share *",
            "reverse_share * kl(log_p, log_q) + (1 - reverse_share) *",
            "λ on the other side",
        ),
        ("symmetric_kl", "temperature**2 * ((1", "((1", "T² dropped"),
    ]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_its_ends_are_the_two_divergences(temperature):
    s, t = draw(5, 7), draw(5, 7, seed=1)
    forward, backward = functional.kd(s, t, temperature), functional.reverse_kl(s, t, temperature)
    assert functional.symmetric_kl(s, t, 1e-12, temperature).item() == pytest.approx(forward.item())
    assert functional.symmetric_kl(s, t, 1 - 1e-12, temperature).item() == pytest.approx(backward.item())
    assert functional.symmetric_kl(s, t).item() == pytest.approx(functional.symmetric_kl(t, s).item())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_one_out_is_refused(share):
    with pytest.raises(UserError, match="reverse_share must be a number above 0"):
        functional.symmetric_kl(draw(2, 3), draw(2, 3), share)
