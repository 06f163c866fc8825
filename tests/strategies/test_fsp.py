"""The flow between neighbouring stages (fsp)."""

import numpy as np
import pytest
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels
from helpers.numbers import draw, pooled

from distillab import functional
from distillab.core.errors import UserError


def reference_fsp(bottom_s, top_s, bottom_t, top_t):
    def flow(bottom, top):
        side = min(bottom.shape[-1], top.shape[-1])
        bottom, top = pooled(bottom, side), pooled(top, side)
        return [[[(a * b).mean() for a in x] for b in y] for x, y in zip(bottom, top, strict=True)]

    return float(((np.array(flow(bottom_s, top_s)) - np.array(flow(bottom_t, top_t))) ** 2).mean())


class TestFSP(MethodTester):
    configs = ("fsp",)
    cases = {
        "fsp": [
            Case(
                reference_fsp,
                student={"bottom_s": draw(2, 3, 4, 4), "top_s": draw(2, 5, 2, 2, seed=1)},
                teacher={"bottom_t": draw(2, 3, 8, 8, seed=2), "top_t": draw(2, 5, 4, 4, seed=3)},
            )
        ],
    }
    mutations = [
        ("fsp", "/ top.shape[2]", "", "summed over pixels"),
        ("fsp", "top_t.detach()", "top_t", "a gradient to the teacher"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(UserError, match="bottom_s and bottom_t must have equal channels"):
        functional.fsp(small, small, large, small)


def test_dead_channels_and_flat_maps_stay_finite():
    check_dead_channels(lambda F_s, F_t: functional.fsp(F_s, F_s, F_t, F_t))
