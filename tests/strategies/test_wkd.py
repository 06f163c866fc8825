"""Gaussian Wasserstein distances of maps (wkd)."""

import math
from itertools import product

import pytest
from helpers.fits import assert_every_parameter_learns, strategy
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.wkd import WKD


def reference_wkd(F_s, F_t, mean_weight=4.0, eps=1e-5):
    total = 0.0
    for n, c in product(range(len(F_s)), range(F_s.shape[1])):
        (m, a), (k, b) = ((x[n, c].mean(), math.sqrt(x[n, c].ravel().var(ddof=1) + eps)) for x in (F_s, F_t))
        total += mean_weight * (m - k) ** 2 + (a - b) ** 2
    return total / len(F_s)


class TestWKD(MethodTester):
    configs = ("wkd",)
    cases = {
        "wkd": [
            Case(reference_wkd, student={"F_s": draw(3, 4, 4, 4)}, teacher={"F_t": draw(3, 4, 2, 3, seed=1)}),
            Case(
                reference_wkd,
                student={"F_s": draw(3, 2, 2, 2)},
                teacher={"F_t": draw(3, 2, 2, 2, seed=1)},
                rest={"mean_weight": 1.0, "eps": 1e-2},
            ),
        ],
    }
    mutations = [
        (
            "wkd",
            "mean_weight * mean.square() + deviation",
            "mean.square() + mean_weight * deviation",
            "the weight astray",
        ),
        ("wkd", ".sum(1).mean()", ".mean()", "mean over channels"),
        ("wkd", "F_s.var((2, 3))", "F_s.var((2, 3), unbiased=False)", "biased variance"),
        ("wkd", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(UserError, match="F_s and F_t must have equal channels"):
        functional.wkd(small, large)
    with pytest.raises(UserError, match="F_s and F_t must have more than one pixel"):
        functional.wkd(small, draw(2, 3, 1, 1))


def test_dead_channels_and_flat_maps_stay_finite():
    check_dead_channels(functional.wkd)


def test_wkd_refuses_a_single_pixel_and_no_map():
    for last in ((), ((4, 1, 1),)):
        with pytest.raises(UserError, match=r"teacher\.stages=\[…\], or choose strategy=pkt"):
            WKD().connect(info((4, 2, 2)), info(*last))


def test_the_weight_falls_as_the_authors_has_it():
    """Theirs counts epochs from 1, and lowers the weight in those after the 150th."""
    term = WKD(**{key: value for key, value in strategy("wkd")["wkd"].items() if key != "_target_"})
    for epoch in range(1, 241):
        term.set_epoch(epoch - 1, 240)
        share = 0.5 * (1 + math.cos(math.pi * (epoch - 150) / 90)) if epoch > 150 else 1.0
        assert term.weight == pytest.approx(0.08 * share, abs=1e-12), epoch


def test_every_parameter_learns():
    assert_every_parameter_learns("wkd")
