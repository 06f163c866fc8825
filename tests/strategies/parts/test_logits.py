"""What the losses on logits share: precision, checks, and the classes other than one, in log space."""

import math

import numpy as np
import pytest
import torch
from helpers.method_tester import LABELS
from helpers.numbers import draw, target_and_rest

from distillab.core.errors import UserError
from distillab.strategies.parts.logits import (
    check_below,
    check_positive,
    log_mixture,
    log_pair,
    log_softened,
    others,
    widened,
)


@pytest.mark.parametrize(("given", "wide"), [(torch.float16, torch.float32), (torch.float64, torch.float64)])
def test_both_sides_are_wide_and_the_teacher_has_no_gradient(given, wide):
    s, t = widened(draw(2, 3).to(given).requires_grad_(), draw(2, 3).requires_grad_())
    assert s.dtype == t.dtype == wide and s.requires_grad and not t.requires_grad


def test_a_number_that_is_not_above_0_is_refused_by_name():
    with pytest.raises(UserError, match="b must be a number above 0, got 0"):
        check_positive(a=1, b=0)


def test_a_number_at_its_limit_is_refused_by_name():
    with pytest.raises(UserError, match="b must be a number above 0 and below 1, got 1"):
        check_below({"a": (0.9, 1), "b": (1, 1)})


def test_softened_log_probabilities_are_finite_and_the_teachers_without_gradient():
    s, t = draw(2, 4).requires_grad_(), draw(2, 4, seed=1)
    t[0, 2] = -math.inf
    log_q, log_p = log_softened(s, t.requires_grad_(), 2.0)
    torch.testing.assert_close(log_q.exp(), (s / 2).softmax(-1))
    torch.testing.assert_close(log_p.exp(), (t / 2).softmax(-1))
    assert torch.isfinite(log_p).all() and log_p.exp()[0, 2] == 0 and log_q.requires_grad and not log_p.requires_grad


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_mixture_in_log_space(share):
    a, b = draw(3, 4).softmax(-1), draw(3, 4, seed=1).softmax(-1)
    torch.testing.assert_close(log_mixture(a.log(), b.log(), share).exp(), share * a + (1 - share) * b)


def test_the_other_classes_keep_their_order():
    z = draw(5, 7)
    for row, kept, y in zip(z.numpy(), others(z, LABELS), LABELS, strict=True):
        assert kept.tolist() == np.delete(row, y).tolist()


def test_the_pair_of_a_class_and_the_rest_stays_finite():
    z = draw(5, 7)
    expected = [target_and_rest(row, y) for row, y in zip(z.numpy(), LABELS, strict=True)]
    torch.testing.assert_close(log_pair(z, LABELS).exp(), torch.tensor(expected).double())
    far = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    log_pair(far, torch.tensor([1])).sum().backward()
    assert torch.isfinite(far.grad).all()
