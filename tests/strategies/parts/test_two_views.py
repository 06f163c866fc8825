"""What methods of a weak and a strong view have in common: the labels teach both."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.model_outputs import STUDENT
from helpers.numbers import softmax

from distillab.strategies.parts.two_views import TwoViewCrossEntropy


def test_cross_entropy_of_both_views_is_summed():
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    value = TwoViewCrossEntropy()(STUDENT, None, SimpleNamespace(labels=labels))
    expected = (
        -sum(math.log(softmax(STUDENT[v].logits.numpy())[i, y]) for v in (0, 1) for i, y in enumerate(labels)) / 6
    )
    assert value.item() == pytest.approx(expected)
