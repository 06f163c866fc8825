"""Variational information (vid)."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fits import assert_every_parameter_learns
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.vid import VID


def reference_vid(mean, target, variance):
    v = np.asarray(variance).reshape(1, -1, *[1] * (mean.ndim - 2))
    return float((0.5 * ((mean - target) ** 2 / v + np.log(v))).mean())


class TestVID(MethodTester):
    configs = ("vid",)
    cases = {
        "vid": [
            Case(
                reference_vid,
                student={"mean": draw(2, 3, *size), "variance": draw(3, seed=2).exp()},
                teacher={"target": draw(2, 3, *size, seed=1)},
            )
            for size in ((4, 4), ())
        ],
    }
    mutations = [
        ("vid", "+ variance.log()", "- variance.log()", "a lost sign"),
        ("vid", ".mean() / 2", ".sum() / 2", "summed, not averaged"),
        ("vid", "target.detach()", "target", "a gradient to the teacher"),
        ("vid", "variance.to(mean.dtype)", "variance.detach().to(mean.dtype)", "a variance that cannot learn"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(UserError, match="mean and target must"):
        functional.vid(small, large, draw(3))
    with pytest.raises(UserError, match="variance must"):
        functional.vid(small, small, draw(2))
    with pytest.raises(UserError, match="variance must be above 0 in every channel, got 0"):
        functional.vid(small, small, torch.zeros(3))


def test_vid_starts_at_its_variance_and_the_optimiser_holds_it():
    term = VID(variance=5.0)
    term.connect(info((4, 8, 8), (6, 4, 4)), info((8, 4, 4), (6, 4, 4)))
    assert {f"variances.{i}" for i in range(2)} <= {name for name, p in term.named_parameters() if p.requires_grad}
    for regressor in term.regressors:
        torch.nn.init.zeros_(regressor[-1].weight)
    student = SimpleNamespace(stages=[draw(2, 4, 8, 8).float(), draw(2, 6, 4, 4).float()])
    teacher = SimpleNamespace(stages=[torch.zeros(2, 8, 4, 4), torch.zeros(2, 6, 4, 4)])
    loss = term(student, teacher, SimpleNamespace())
    assert loss.item() == pytest.approx(math.log(5.0), rel=1e-6)  # ½ log 5 for each of two stages
    loss.backward()
    assert all(p.grad.abs().min() > 0 for p in term.variances)


def test_every_parameter_learns():
    assert_every_parameter_learns("vid")
