"""Activation boundaries (ab)."""

import pytest
import torch
from helpers.fits import SHAPE, distillation, make_batch, make_images, small
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info, outputs
from helpers.numbers import draw
from torch import nn

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.ab import ActivationBoundary


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


def test_the_student_learns_and_maps_of_one_shape_have_no_connector():
    module = distillation("ab")
    assert not list(module.strategy.terms["ab"].parameters())
    loss = module.losses(make_batch(make_images()), ("ab",))["ab"]
    for layer in (module.student.net.layer1, module.student.net.layer3):
        assert all(
            g.abs().sum() > 0 for g in torch.autograd.grad(loss, list(layer.parameters())[:1], retain_graph=True)
        )


@pytest.mark.parametrize(
    ("own", "other", "kind", "kernel"),
    [
        ((4, 8, 8), (6, 8, 8), nn.Conv2d, 1),
        ((4, 8, 8), (4, 16, 16), nn.ConvTranspose2d, 4),  # a ShuffleNet's stages are half as large as a ResNet's
        ((4, 16, 16), (4, 8, 8), nn.Conv2d, 3),
    ],
)
def test_maps_of_other_shapes_go_through_a_convolution_and_batchnorm(own, other, kind, kernel):
    term = ActivationBoundary().eval()
    student, teacher = info((2, 32, 32), own), info((2, 32, 32), other)
    term.connect(student, teacher)
    same, layers = term.connectors[0], term.connectors[1].connect
    assert isinstance(same, nn.Identity) and len(layers) == 2 and isinstance(layers[1], nn.BatchNorm2d)  # no ReLU
    assert type(layers[0]) is kind and layers[0].kernel_size == (kernel, kernel)
    (x, y), (u, v) = (outputs(one, seed).preactivations for one, seed in ((student, 0), (teacher, 5)))
    each = [functional.activation_boundary(x, u) / 2, functional.activation_boundary(layers(y), v)]
    loss = term(outputs(student, 0), outputs(teacher, 5), None)
    torch.testing.assert_close(loss, sum(each))


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
