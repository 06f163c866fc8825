"""What every divergence between the outputs of two models must pass: `DivergenceTester`, beside what a method's must."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distillab import functional
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, LogitsTester
from helpers.numbers import draw, softmax

TURNED = "kl(log_q, log_p)", "kl(log_p, log_q)", "KL turned round"


def cases(divergence: Callable[..., float], *rests: dict, **case) -> list[Case]:
    """Cases against a function of two lists of probabilities (teacher's, student's), row by row."""

    def reference(s, t, temperature=1.0, **rest):
        pairs = zip(softmax(t / temperature), softmax(s / temperature), strict=True)
        return temperature**2 * sum(divergence(p, q, **rest) for p, q in pairs) / len(s)

    return [Case(reference, **LOGITS, rest=rest, extreme=True, **case) for rest in rests]


def mixture(p, q, share: float) -> list[float]:
    """share · p + (1 − share) · q."""
    return [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]


def value_and_gradient(name: str, s: Tensor, t: Tensor, **rest) -> tuple[Tensor, Tensor]:
    """Of the function of this name, with respect to the student's logits."""
    s = s.clone().requires_grad_()
    value = getattr(functional, name)(s, t, **rest)
    value.backward()
    return value.detach(), s.grad


class DivergenceTester(LogitsTester):
    """Of functions (s, t, …) that are 0 for equal distributions, and see nothing else of the logits."""

    def test_equal_models_cost_nothing(self, function):
        value, gradient = value_and_gradient(function, draw(6, 9), draw(6, 9))
        assert abs(value) < 1e-12 and gradient.abs().max() < 1e-9

    def test_different_models_cost_something(self, function):
        assert getattr(functional, function)(draw(6, 9), draw(6, 9, seed=1)) > 1e-3

    def test_a_shift_of_the_logits_changes_nothing(self, function):
        s, t = draw(6, 9), draw(6, 9, seed=1)
        shift = draw(6, 1, seed=2)
        first, gradient = value_and_gradient(function, s, t)
        second, shifted = value_and_gradient(function, s + shift, t - 7 * shift)
        torch.testing.assert_close(second, first)
        torch.testing.assert_close(shifted, gradient)

    def test_the_order_of_the_outputs_changes_nothing(self, function):
        s, t, order = draw(6, 9), draw(6, 9, seed=1), torch.randperm(9)
        call = getattr(functional, function)
        torch.testing.assert_close(call(s[:, order], t[:, order]), call(s, t))

    @pytest.mark.parametrize("masked", [-1e9, -math.inf])
    def test_outputs_that_cannot_be_count_for_nothing(self, function, masked):
        """Those that both models exclude; what one of them excludes leaves all finite."""
        s, t = draw(4, 5).float(), draw(4, 5, seed=1).float()
        wide = [torch.cat([logits, torch.full((4, 2), masked)], 1) for logits in (s, t)]
        value, gradient = value_and_gradient(function, *wide)
        expected, known = value_and_gradient(function, s, t)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient[:, :5], known)
        assert not gradient[:, 5:].any()
        for pair in ((wide[0], draw(4, 7).float()), (draw(4, 7).float(), wide[1])):
            assert all(torch.isfinite(x).all() for x in value_and_gradient(function, *pair))

    def test_a_large_vocabulary_in_float32_is_near_float64(self, function):
        t = 4 * draw(2, 128_000, seed=1)
        s = t + draw(2, 128_000)
        found = value_and_gradient(function, s.float(), t.float())
        exact = value_and_gradient(function, s, t)
        torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-4, atol=0)
        assert (found[1].double() - exact[1]).norm() < 1e-4 * exact[1].norm()
