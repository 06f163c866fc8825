"""Class attention maps (cat)."""

import numpy as np
import pytest
import torch
from helpers.fits import assert_learns, distillation, make_batch, make_images, ordered_teachers
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.cat import ClassAttention


def reference_class_attention(A_s, A_t, resolution, normalize):
    """Map by map, cell by cell."""
    total, count = 0.0, 0
    for maps in zip(A_s.reshape(-1, *A_s.shape[2:]), A_t.reshape(-1, *A_t.shape[2:]), strict=True):
        cells = []
        for one in maps:
            block = one.shape[0] // resolution
            places = np.ndindex(resolution, resolution)
            means = [one[r * block : (r + 1) * block, c * block : (c + 1) * block].mean() for r, c in places]
            length = np.sqrt(sum(m**2 for m in means)) if normalize else 1.0
            cells.append([m / length for m in means])
        total += sum((a - b) ** 2 for a, b in zip(*cells, strict=True))
        count += resolution**2
    return total / count


class TestCAT(MethodTester):
    configs = ("cat",)
    cases = {
        "class_attention": [
            Case(
                reference_class_attention,
                student={"A_s": draw(2, 3, 4, 4)},
                teacher={"A_t": draw(2, 3, 8, 8, seed=1)},
                rest={"resolution": resolution, "normalize": normalize},
            )
            for resolution, normalize in ((2, True), (2, False), (4, False), (1, False))
        ],
    }
    mutations = [
        ("class_attention", "F.mse_loss(unit(A_s), unit(A_t))", "F.mse_loss(A_s, A_t)", "not normalised"),
        ("class_attention", "flatten(2)", "flatten(1)", "one norm for all classes"),
        ("class_attention", "if normalize else F.mse_loss(A_s, A_t)", "", "always normalised"),
        ("class_attention", "A_t.detach()", "A_t", "a gradient to the teacher"),
    ]


def test_a_class_that_is_seen_nowhere_has_a_finite_gradient():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    functional.class_attention(maps, torch.ones(2, 3, 4, 4)).backward()
    assert torch.isfinite(maps.grad).all() and maps.grad.abs().max() < 1e3


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="A_s and A_t must be"):
        functional.class_attention(draw(2, 3), draw(2, 3))
    with pytest.raises(UserError, match="A_s and A_t must have a map for each class"):
        functional.class_attention(draw(2, 3, 4, 4), draw(2, 4, 4, 4))
    with pytest.raises(UserError, match="resolution must be a whole number from 1, got 0"):
        functional.class_attention(draw(2, 3, 4, 4), draw(2, 3, 4, 4), resolution=0)


def test_what_the_term_trains():
    assert_learns("cat", lambda module: [module.student.net.fc.weight])


def test_class_maps_pool_to_the_logits():
    """At one cell, unnormalised, class attention is the error of the logits without their biases."""
    module = distillation("cat")
    term, images = module.strategy.terms["cat"], make_images()
    term.resolution = 1
    module.eval()
    loss = module.losses(make_batch(make_images()), ("cat",))["cat"]
    logits = [m(images) - m.net.fc.bias for m in (module.student, module.teacher.model)]
    assert loss.item() == pytest.approx(15 * (logits[0] - logits[1]).square().mean().item(), rel=1e-4)


def test_a_teachers_class_order_is_followed():
    """A teacher whose outputs stand in another order has the same class maps."""
    pair = [distillation("cat", teacher=teacher).eval() for teacher in ordered_teachers()]
    torch.testing.assert_close(*(module.losses(make_batch(make_images()), ("cat",))["cat"] for module in pair))


def test_a_resolution_is_a_whole_number():
    with pytest.raises(UserError, match="resolution must be a whole number from 1"):
        ClassAttention(resolution=0.5)
