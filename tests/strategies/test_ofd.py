"""Partial L2 before the ReLU, with margins from BatchNorm (ofd)."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from helpers.fits import assert_learns
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info, outputs
from helpers.numbers import draw, pooled

from distillab import functional
from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.ofd import OFD, norm_margin


def reference_margin(weight, bias):
    """Channel by channel, the tail mean of a normal distribution."""
    normal, margins = NormalDist(), []
    for sigma, mu in zip(np.abs(weight), bias, strict=True):
        below = normal.cdf(-mu / sigma)
        margins.append(mu - sigma * normal.pdf(mu / sigma) / below if below > 0.001 else -3 * sigma)
    return np.array(margins)


def reference_ofd(F_s, F_t, margin):
    """Unit by unit."""
    total = 0.0
    for s, t in zip(F_s, F_t, strict=True):
        for place in np.ndindex(s.shape):
            goal = max(t[place], margin[place[0]])
            if s[place] > goal or goal > 0:
                total += (s[place] - goal) ** 2
    return total / len(F_s)


PAIR = {"student": {"F_s": draw(3, 4, 2, 2)}, "teacher": {"F_t": draw(3, 4, 2, 2, seed=1)}}


NORM = {"weight": draw(4, seed=2), "bias": torch.tensor([0.2, -0.5, 9.0, 0.0]).double()}


class TestOFD(MethodTester):
    configs = ("ofd",)
    cases = {
        "ofd": [
            Case(reference_ofd, PAIR["student"], PAIR["teacher"] | {"margin": -draw(4, seed=2).abs()}),
            Case(reference_ofd, PAIR["student"], PAIR["teacher"] | {"margin": torch.zeros(4).double()}),
        ],
        "ofd_margin": [
            Case(
                lambda F_s, F_t, weight, bias: reference_ofd(F_s, F_t, reference_margin(weight, bias)),
                student={"F_s": 3 * draw(9, 4, 3, 3)},
                teacher={"F_t": 3 * draw(9, 4, 3, 3, seed=1) - 2, **NORM},
            )
        ],
    }
    composed = {
        "ofd_margin": lambda F_s, F_t, weight, bias: functional.ofd(F_s, F_t, functional.ofd_margin(weight, bias))
    }
    mutations = [
        ("ofd", "(F_s > goal) | (goal > 0)", "(F_s > F_t) | (F_t > 0)", "no margin where it counts"),
        ("ofd", "torch.where(counts, F_s - goal, 0)", "(F_s - goal)", "every unit counts"),
        ("ofd", "torch.maximum(F_t, ", "torch.minimum(F_t, ", "the smaller of map and margin"),
        ("ofd", ".sum(1).mean()", ".mean()", "mean over the units"),
        ("ofd", "F_t.detach()", "F_t", "a gradient to the teacher"),
        ("ofd_margin", "mean - deviation * density", "mean + deviation * density", "a lost sign"),
        ("ofd_margin", "-3 * deviation", "0 * deviation", "no floor for a channel that is rarely negative"),
        ("ofd_margin", "ndtr(-z)", "ndtr(z)", "the other tail"),
    ]


def test_margins_and_maps_that_do_not_go_together_are_refused():
    F_s, F_t = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    with pytest.raises(UserError, match="F_s and F_t must have one shape"):
        functional.ofd(F_s, F_t[:, :2], draw(3))
    with pytest.raises(UserError, match="margin must be"):
        functional.ofd(F_s, F_t, draw(2))
    with pytest.raises(UserError, match="weight and bias must be"):
        functional.ofd_margin(draw(3), draw(2))


def test_hand_made_margins():
    margin = functional.ofd_margin(torch.tensor([1.0, -1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 8.0, -0.5, 0.5]))
    expected = [-math.sqrt(2 / math.pi), -math.sqrt(2 / math.pi), -6.0, -0.5, 0.0]  # constant channels last
    torch.testing.assert_close(margin, torch.tensor(expected))
    plain = norm_margin(torch.nn.BatchNorm2d(2, affine=False))
    torch.testing.assert_close(plain, torch.full((2,), expected[0]))


def test_student_and_connectors_learn():
    module = assert_learns("ofd", lambda module: module.strategy.terms["ofd"].connectors.parameters())
    assert all(len(connector) == 2 for connector in module.strategy.terms["ofd"].connectors)  # no ReLU


@pytest.mark.parametrize(("own", "other"), [(4, 8), (8, 4), (4, 4)])
def test_the_larger_map_is_pooled(own, other):
    """The teacher's comes down to the student's: a sum over four times as many pixels would weigh four times as much."""
    student = info((2, own, own))
    norm = torch.nn.BatchNorm2d(3)
    torch.nn.init.uniform_(norm.bias)
    teacher = FeatureInfo("large", (Stage("layer0", 3, other, other, norm="layer0.bn"),), 7, 10, "fc")
    term = OFD().eval()
    term.connect(student, teacher)
    mine, theirs = outputs(student, 0), outputs(teacher, 9)
    theirs[0].norms = [norm]
    x, y = term.connectors[0](mine.preactivations[0]), theirs.preactivations[0]
    side = min(own, other)
    x, y = (torch.from_numpy(pooled(one.detach().numpy(), side)) for one in (x, y))
    margin = reference_margin(norm.weight.detach().double().numpy(), norm.bias.detach().double().numpy())
    expected = reference_ofd(x.double().numpy(), y.double().numpy(), margin)
    assert term(mine, theirs, None).item() == pytest.approx(expected, rel=1e-5)


def test_a_teacher_without_batchnorm_is_refused():
    student = info((8, 4, 4), name="small")
    with pytest.raises(UserError, match=r"BatchNorm.*small has none in layer0.*reviewkd"):
        OFD().connect(student, student)
