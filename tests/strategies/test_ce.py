"""Cross-entropy with the labels, and the student alone (none)."""

import math

import pytest
from helpers.method_tester import MethodTester
from helpers.numbers import draw, softmax
from torch.nn import functional as F

from distillab.strategies.ce import CrossEntropy


class TestCrossEntropy(MethodTester):
    configs = ("none",)


def test_labels_may_be_classes_or_shares_of_them():
    logits, labels = draw(5, 7), (draw(5, 1) > 0).long().squeeze(-1)
    expected = [-math.log(row[y]) for row, y in zip(softmax(logits.numpy()), labels, strict=True)]
    for given in (labels, F.one_hot(labels, 7).double()):
        assert CrossEntropy().rows(logits, None, given).tolist() == pytest.approx(expected)
