"""Checks of a loss's arguments, and the precision in which it computes."""

import pytest
import torch
from helpers.numbers import draw

from distillab.core.errors import UserError
from distillab.strategies.parts.arguments import (
    check_positive,
    check_same_channels,
    check_same_shape,
    check_whole,
    widened,
)


@pytest.mark.parametrize(("given", "wide"), [(torch.float16, torch.float32), (torch.float64, torch.float64)])
def test_both_sides_are_wide_and_the_teacher_has_no_gradient(given, wide):
    s, t = widened(draw(2, 3).to(given).requires_grad_(), draw(2, 3).requires_grad_())
    assert s.dtype == t.dtype == wide and s.requires_grad and not t.requires_grad


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check_positive(a=1, b=0), "b must be a number above 0, got 0"),
        (lambda: check_whole(a=1, b=1.5), r"b must be a whole number from 1, got 1\.5"),
        (lambda: check_whole(0, a=-1), "a must be a whole number from 0, got -1"),
        (lambda: check_same_shape(a=draw(2, 3), b=draw(2, 4)), r"a and b must have one shape, got \(2, 3\) and \(2, 4"),
        (lambda: check_same_channels(a=draw(2, 3), b=draw(2, 4)), "a and b must have equal channels, got 3 and 4"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()
