"""What the losses on logits share: the classes other than one, in log space."""

import numpy as np
import torch
from helpers.method_tester import LABELS
from helpers.numbers import draw, target_and_rest

from distillab.strategies.parts.logits import log_pair, others


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
