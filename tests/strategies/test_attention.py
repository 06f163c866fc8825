"""Attention maps (attention)."""

import numpy as np
import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_second_derivatives_of_dead_maps
from helpers.numbers import draw, second_derivatives
from torch.nn import functional as F

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.attention import AttentionTransfer


def reference_attention(F_s, F_t, p):
    """Sample by sample; the larger map is pooled by hand, a block at a time."""
    ratio = F_s.shape[-1] // F_t.shape[-1]
    side = F_t.shape[-1]
    total = 0.0
    for one, other in zip(F_s, F_t, strict=True):
        pooled = one.reshape(one.shape[0], side, ratio, side, ratio).mean((2, 4))
        maps = [((x if p in (1, 2, 3) else np.abs(x)) ** p).mean(0).ravel() for x in (pooled, other)]
        a, b = (m / np.sqrt((m**2).sum()) for m in maps)
        total += ((a - b) ** 2).sum()
    return total / (len(F_s) * side * side)


class TestAttention(MethodTester):
    configs = ("attention",)
    cases = {
        "attention_transfer": [
            Case(
                reference_attention,
                student={"F_s": draw(3, 5, 8, 8)},
                teacher={"F_t": draw(3, 2, 4, 4, seed=1)},
                rest={"p": p},
            )
            for p in (1, 2, 3, 2.5)
        ],
    }
    mutations = [
        ("attention_transfer", ".pow(p).mean(1)", ".pow(p).sum(1).sqrt()", "root of the sum"),
        ("attention_transfer", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="must"):
        functional.attention_transfer(draw(2, 3), draw(3, 4))


def test_a_power_whose_gradient_is_infinite_at_zero_is_refused():
    for make in (lambda p: functional.attention_transfer(draw(2, 3, 4, 4), draw(2, 3, 4, 4), p), AttentionTransfer):
        with pytest.raises(UserError, match=r"p must be a number from 1, got 0\.5"):
            make(p=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_relu_makes_zero_has_second_derivatives(dtype):
    """Zeros among the activations, a dead channel, a sample of zeros."""
    student, teacher = draw(3, 4, 4, 4).relu().to(dtype), draw(3, 4, 4, 4, seed=1).relu().to(dtype)
    check_second_derivatives_of_dead_maps(functional.attention_transfer, dtype)
    attention = second_derivatives(lambda x: functional.attention_transfer(x, teacher), student)
    maps = [F.normalize(x.square().mean(1).flatten(1)) for x in (student, teacher)]
    squares = second_derivatives(
        lambda x: (F.normalize(x.square().mean(1).flatten(1)) - maps[1]).square().mean(), student
    )
    torch.testing.assert_close(attention, squares)
