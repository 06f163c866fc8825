"""Activation boundaries (ab)."""

import pytest
import torch
from helpers.fits import SHAPE, assert_learns, distillation, make_batch, small
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError


def reference_activation_boundary(F_s, F_t, margin):
    """Unit by unit."""
    total = 0.0
    for s, t in zip(F_s.ravel(), F_t.ravel(), strict=True):
        if t > 0 and s < margin:
            total += (s - margin) ** 2
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total / len(F_s)


PAIR = {"student": {"F_s": draw(3, 4, 2, 2)}, "teacher": {"F_t": draw(3, 4, 2, 2, seed=1)}}


class TestAB(MethodTester):
    configs = ("ab",)
    cases = {
        "activation_boundary": [
            Case(reference_activation_boundary, **PAIR, rest={"margin": 1.0}),
            Case(reference_activation_boundary, {"F_s": draw(3, 5)}, {"F_t": draw(3, 5, seed=1)}, {"margin": 0.3}),
        ],
    }
    mutations = [
        ("activation_boundary", ".sum(1).mean()", ".mean()", "mean over the units"),
        ("activation_boundary", "margin - F_s, margin + F_s", "margin + F_s, margin - F_s", "on and off exchanged"),
        ("activation_boundary", "F.relu(short).square()", "F.relu(short)", "a hinge that is not squared"),
        ("activation_boundary", "F_t > 0", "F_t > margin", "on from the margin"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="F_s and F_t must be"):
        functional.activation_boundary(draw(2, 3, 4, 4), draw(3, 3, 4, 4))
    with pytest.raises(UserError, match="F_s and F_t must have one shape"):
        functional.activation_boundary(draw(2, 3, 4, 4), draw(2, 2, 4, 4, seed=1))


def test_hand_made_boundaries():
    assert functional.activation_boundary(torch.tensor([[2.0, -2.0]]), torch.tensor([[0.1, 0.0]])).item() == 0
    assert functional.activation_boundary(torch.zeros(1, 6), torch.randn(1, 6)).item() == 6


def test_student_and_connectors_learn():
    module = assert_learns("ab", lambda module: module.strategy.terms["ab"].connectors.parameters())
    assert all(len(connector.connect) == 2 for connector in module.strategy.terms["ab"].connectors)  # no ReLU


def test_stages_weigh_half_of_the_next():
    module = distillation("ab", teacher=small(1))
    term = module.strategy.terms["ab"].eval()
    images = torch.rand(4, *SHAPE)
    module.student.eval()
    batch = make_batch(images)
    losses = module.losses(batch, ("ab",))
    outputs = [module.extractors[0](**batch.inputs[0]), module.teacher(batch)[0]]
    each = [
        functional.activation_boundary(connect(s), t)
        for connect, s, t in zip(term.connectors, *(o.preactivations for o in outputs), strict=True)
    ]
    assert losses["ab"].item() == pytest.approx(0.003 * (each[0] / 4 + each[1] / 2 + each[2]).item(), rel=1e-5)
