"""α-β divergences (abkd)."""

import math

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, NO_DETACH, MethodTester
from helpers.numbers import draw, softmax

from distillab import functional
from distillab.core.errors import UserError


def reference_abkd(s, t, alpha, beta):
    """Class by class."""
    total = 0.0
    for p, q in zip(softmax(t), softmax(s), strict=True):
        for a, b in zip(p, q, strict=True):
            whole = alpha + beta
            total += a**alpha * b**beta - alpha / whole * a**whole - beta / whole * b**whole
    return -total / (alpha * beta) / len(s)


def reference_limit(s, t, alpha, beta):
    """The limits as they are written, each in its own branch."""
    total = 0.0
    for p, q in zip(softmax(t).ravel(), softmax(s).ravel(), strict=True):
        if alpha == beta == 0:
            total += 0.5 * math.log(p / q) ** 2
        elif beta == 0:
            total += (p**alpha * math.log(p**alpha / q**alpha) - p**alpha + q**alpha) / alpha**2
        elif alpha == 0:
            total += (q**beta * math.log(q**beta / p**beta) - q**beta + p**beta) / beta**2
        else:
            total += (math.log(q**alpha / p**alpha) + p**alpha / q**alpha - 1) / alpha**2
    return total / len(s)


LIMITS = [(0.8, 0.0), (0.0, 0.3), (0.7, -0.7), (0.0, 0.0)]


class TestABKD(MethodTester):
    configs = ("abkd",)
    cases = {
        "abkd": [
            *(
                Case(reference_abkd, **LOGITS, rest={"alpha": alpha, "beta": beta}, extreme=beta > 0)
                for alpha, beta in [(0.8, 0.3), (1.2, -0.4)]
            ),
            *(
                Case(reference_limit, **LOGITS, rest={"alpha": alpha, "beta": beta}, extreme=beta >= 0)
                for alpha, beta in LIMITS
            ),
        ],
    }
    mutations = [
        ("abkd", *NO_DETACH),
        (
            "abkd",
            "F.log_softmax(t, -1), F.log_softmax(s, -1)",
            "F.log_softmax(s, -1), F.log_softmax(t, -1)",
            "α and β exchanged",
        ),
        ("abkd", "- mixed).sum(-1) / (alpha * beta)", "- mixed).sum(-1)", "1/(αβ) dropped"),
        ("abkd", "alpha / total * p + beta / total * q", "p / alpha + q / beta", "1/α and 1/β for the shares"),
        ("abkd", "- mixed).sum(-1)", "- mixed).mean(-1)", "mean over classes"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="s and t must be logits"):
        functional.abkd(draw(2, 3), draw(3, 3))


@pytest.mark.parametrize(("alpha", "beta"), LIMITS)
def test_abkd_at_its_limits_is_what_lies_beside_them(alpha, beta):
    s, t = draw(5, 7), draw(5, 7, seed=1)
    beside = functional.abkd(s, t, alpha + 1e-4, beta + 2e-4)
    assert functional.abkd(s, t, alpha, beta).item() == pytest.approx(beside.item(), rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("alpha", "beta"), LIMITS)
@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-7, 1e-10, 1e-16])
def test_abkd_keeps_its_value_on_the_way_to_a_limit(alpha, beta, step, dtype):
    s, t = draw(5, 7).to(dtype), draw(5, 7, seed=1).to(dtype)
    limit = functional.abkd(s.double(), t.double(), alpha, beta).item()
    rounding = 0.05 if dtype == torch.float32 else 1e-4
    beside = functional.abkd(s, t, alpha + step, beta + 2 * step).item()
    assert beside == pytest.approx(limit, rel=20 * step + rounding)


def test_abkd_holds_both_kl_divergences():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.abkd(s, t, 1.0, 0.0).item() == pytest.approx(functional.kd(s, t, 1.0).item(), rel=1e-9)
    assert functional.abkd(s, t, 0.0, 1.0).item() == pytest.approx(functional.kd(t, s, 1.0).item(), rel=1e-9)
