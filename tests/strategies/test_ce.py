"""Cross-entropy with the labels, and the student alone (none)."""

import math

import numpy as np
import pytest
import torch
from helpers.data_checks import complaint
from helpers.fits import distillation, make_batch, make_images, trainer
from helpers.method_tester import MethodTester
from helpers.numbers import draw, softmax
from torch.nn import functional as F

from distillab.schemes.pretrain import ALONE, alone
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.parts.two_views import TwoViewCrossEntropy


class TestCrossEntropy(MethodTester):
    configs = ("none",)


def test_labels_may_be_classes_or_shares_of_them():
    logits, labels = draw(5, 7), (draw(5, 1) > 0).long().squeeze(-1)
    expected = [-math.log(row[y]) for row, y in zip(softmax(logits.numpy()), labels, strict=True)]
    for given in (labels, F.one_hot(labels, 7).double()):
        assert CrossEntropy().rows(logits, None, given).tolist() == pytest.approx(expected)


WEIGHTS = [0.5, 2.0, 0.0, 1, 1, 3, 1, 0.25, 1, 1]


@pytest.mark.parametrize("views", [1, 2])
def test_class_weights_weigh_as_in_torch(views):
    """The mean over samples of one class is divided by their weights, that over shares of classes by their number."""
    term = (CrossEntropy, TwoViewCrossEntropy)[views - 1](class_weights=WEIGHTS)
    module = distillation({"ce": term})
    module.eval()
    labels = torch.tensor([0, 1, 1, 2, 5, 7, 9, 9])
    for given in (labels, 0.6 * F.one_hot(labels, 10).float() + 0.04):
        batch = make_batch(*[make_images(8, seed) for seed in range(views)], labels=given)
        expected = sum(F.cross_entropy(module.student(x), given, torch.tensor(WEIGHTS)) for x in batch.pixels)
        torch.testing.assert_close(module.losses(batch, ("ce",))["ce"], expected)
    only = make_batch(*[make_images(2, seed) for seed in range(views)], labels=torch.tensor([0, 0]))
    assert torch.isfinite(module.losses(only, ("ce",))["ce"])


def test_balanced_weights_are_those_of_scikit_learn(few_digits):
    from sklearn.utils.class_weight import compute_class_weight

    rare = few_digits.with_wrong_labels([3])
    labels = rare.training_labels.numpy()
    module = distillation({"ce": CrossEntropy(class_weights="balanced")})
    assert module.strategy.terms["ce"].prepares and not CrossEntropy(class_weights=WEIGHTS).prepares
    trainer(1, limit_train_batches=1, limit_val_batches=0).fit(module, datamodule=rare.configure(64, 0))
    found, present = module.strategy.terms["ce"].of_class, np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels) * len(present) / 10  # of all ten classes
    torch.testing.assert_close(found[present], torch.from_numpy(expected).float())
    assert not [key for key in module.state_dict() if "of_class" in key], "they follow from the data"


def test_class_weights_that_cannot_be_are_refused():
    for wrong in ("equal", [], [1, "a"], [-1, 2], [0, 0], [math.inf, 1], 3):
        complaint(lambda wrong=wrong: CrossEntropy(class_weights=wrong), "class_weights must be balanced, a list")
    complaint(lambda: distillation({"ce": CrossEntropy(class_weights=[1, 2])}), "2 numbers", "10 classes")


def test_the_student_alone_learns_by_the_same_class_weights():
    """Or the gain over it would be one of the weights."""
    assert alone({"ce": {"weight": 0.1, "class_weights": "balanced"}, "kd": {}}) == {
        "ce": ALONE["ce"] | {"class_weights": "balanced"}
    }
    assert alone({"kd": {}}) == alone({"ce": {"weight": 0.1}}) == ALONE
