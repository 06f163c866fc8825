"""What the losses on logits share: precision, checks, and the classes other than one, in log space."""

import numpy as np
import pytest
import torch
from helpers.method_tester import LABELS
from helpers.numbers import draw, target_and_rest

from distillab.core.errors import UserError
from distillab.strategies.parts.logits import check_positive, log_pair, others, widened


@pytest.mark.parametrize(("given", "wide"), [(torch.float16, torch.float32), (torch.float64, torch.float64)])
def test_both_sides_are_wide_and_the_teacher_has_no_gradient(given, wide):
    s, t = widened(draw(2, 3).to(given).requires_grad_(), draw(2, 3).requires_grad_())
    assert s.dtype == t.dtype == wide and s.requires_grad and not t.requires_grad


def test_a_number_that_is_not_above_0_is_refused_by_name():
    with pytest.raises(UserError, match="b must be a number above 0, got 0"):
        check_positive(a=1, b=0)


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
