"""Neuron selectivity: kernels of channels (nst)."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers.fits import assert_every_parameter_learns
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels, check_second_derivatives_of_dead_maps
from helpers.numbers import draw, pooled

from distillab import functional
from distillab.core.errors import UserError


def reference_nst(F_s, F_t):
    """Channel pair by channel pair."""
    side = min(F_s.shape[-1], F_t.shape[-1])
    total = 0.0
    for one, other in zip(pooled(F_s, side), pooled(F_t, side), strict=True):
        a, b = ([c.ravel() / np.sqrt((c**2).sum()) for c in x] for x in (one, other))
        kernel = lambda x, y: np.mean([(u @ v) ** 2 for u, v in product(x, y)])  # noqa: E731
        total += kernel(b, b) + kernel(a, a) - 2 * kernel(a, b)
    return total / len(F_s)


class TestNST(MethodTester):
    configs = ("nst",)
    cases = {
        "nst": [
            Case(reference_nst, student={"F_s": draw(3, 5, 4, 4)}, teacher={"F_t": draw(3, 2, 2, 2, seed=1)}),
            Case(reference_nst, student={"F_s": draw(3, 2, 2, 2)}, teacher={"F_t": draw(3, 4, 4, 4, seed=1)}),
        ],
    }
    mutations = [
        ("nst", "- 2 * inner", "- inner", "the cross term once"),
        ("nst", "unit(F_s.flatten(2))", "unit(F_s.flatten(1)).view_as(F_s).flatten(2)", "one norm for all channels"),
        ("nst", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(UserError, match="F_s and F_t must"):
        functional.nst(draw(2, 3, 2, 2), draw(3, 3, 2, 2))


def test_dead_channels_and_flat_maps_stay_finite():
    check_dead_channels(functional.nst)


def test_every_parameter_learns():
    assert_every_parameter_learns("nst")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_relu_makes_zero_has_second_derivatives(dtype):
    check_second_derivatives_of_dead_maps(functional.nst, dtype)
