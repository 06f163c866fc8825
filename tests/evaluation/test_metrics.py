"""Numbers of one model's answers, against hand-made answers, closed forms and scikit-learn."""

import math

import pytest
import torch

from distillab.evaluation import metrics


def says(*answers, classes, sure=4.0):
    """Logits whose largest is the given answer."""
    return sure * torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


@pytest.fixture(scope="module")
def drawn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 9, (600,), generator=generator)  # the tenth class has no sample
    logits = 3 * torch.randn(600, 10, generator=generator) + 3 * torch.nn.functional.one_hot(labels, 10)
    return logits, labels


def test_classification_metrics_by_hand():
    # Probabilities (.5, .3, .2), (.1, .8, .1), (.6, .2, .2); the labels 0, 1, 2.
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]], dtype=torch.float64)
    judged = metrics.classification_metrics(
        probabilities.log() + torch.tensor([[7.0], [-3.0], [0.0]]), torch.tensor([0, 1, 2])
    )
    assert judged["top1"] == pytest.approx(2 / 3)
    assert judged["top5"] == 1.0  # of three classes the label is always among the first three
    assert judged["nll"] == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3)
    assert judged["brier"] == pytest.approx(((0.25 + 0.09 + 0.04) + (0.01 + 0.04 + 0.01) + (0.36 + 0.04 + 0.64)) / 3)
    # Confidences .5, .8 and .6 lie in three different bins of width 1/15.
    assert judged["calibration_error"] == pytest.approx((0.5 + 0.2 + 0.6) / 3)
    assert judged["per_class"] == [1.0, 1.0, 0.0]
    assert judged["balanced_accuracy"] == pytest.approx(2 / 3)
    assert judged["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_calibration_joins_the_samples_of_a_bin():
    # Two samples of confidence .61, one right: |.61 - .5|, where each by itself would give the mean of .39 and .61.
    logits = torch.tensor([[0.61, 0.39], [0.61, 0.39]]).log()
    assert metrics.classification_metrics(logits, torch.tensor([0, 1]))["calibration_error"] == pytest.approx(
        0.11, abs=1e-6
    )


def test_classification_metrics_agrees_with_scikit_learn(drawn):
    from sklearn import metrics as reference

    logits, labels = drawn
    probabilities, answers = logits.double().softmax(1).numpy(), logits.argmax(1).numpy()
    judged = metrics.classification_metrics(logits, labels)
    classes = list(range(10))
    assert judged["top1"] == pytest.approx(reference.accuracy_score(labels, answers))
    assert judged["top5"] == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=5, labels=classes))
    assert judged["nll"] == pytest.approx(reference.log_loss(labels, probabilities, labels=classes))
    recalls = reference.recall_score(labels, answers, labels=classes[:9], average=None)
    assert judged["per_class"] == [*map(pytest.approx, recalls), None]
    assert judged["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert (answers == 9).any()  # the tenth class is answered though it never occurs, and counts in F1 with zero
    assert judged["macro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="macro"))


def test_classification_metrics_of_a_network_that_says_nothing():
    judged = metrics.classification_metrics(torch.zeros(20, 10), torch.arange(20) % 10)
    assert (judged["top1"], judged["top5"]) == (0.1, 0.5)
    assert judged["nll"] == pytest.approx(math.log(10))
    assert judged["brier"] == pytest.approx(0.9)
    assert judged["calibration_error"] == pytest.approx(0, abs=1e-6)
    assert judged["macro_f1"] == pytest.approx(2 * 2 / (2 + 20) / 10)


def test_classification_metrics_stays_finite_on_huge_logits():
    judged = metrics.classification_metrics(says(1, 0, classes=2, sure=1e5), torch.tensor([1, 1]))
    assert (judged["top1"], judged["nll"], judged["brier"]) == (0.5, 5e4, 1.0)
    assert judged["per_class"] == [None, 0.5]
    assert judged["balanced_accuracy"] == 0.5


def test_classification_metrics_is_plain_numbers(drawn):
    import json

    logits, labels = drawn
    assert json.loads(json.dumps(metrics.classification_metrics(logits, labels))) == metrics.classification_metrics(
        logits, labels
    )
    assert json.loads(json.dumps(metrics.against_teacher(logits, logits, labels).model_dump()))["agreement"] == 1.0


def test_against_teacher_by_hand():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    teacher = says(0, 1, 1, 2, 1, 2, 2, 2, classes=3)
    student = says(0, 1, 2, 1, 1, 1, 2, 0, classes=3)
    told = metrics.against_teacher(student, teacher, labels)
    assert told.agreement == 4 / 8
    # The teacher errs at samples 1, 2, 3 and 5; the student answers the same at sample 1 alone.
    assert (told.teacher_errors, told.repeated_errors) == (4, 1 / 4)


def test_kl_in_closed_form():
    teacher, student = torch.tensor([0.9, 0.1]), torch.tensor([0.6, 0.4])
    told = metrics.against_teacher(student.log()[None], teacher.log()[None] + 5, torch.tensor([0]))
    assert told.kl == pytest.approx(0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4), rel=1e-5)
    assert told.repeated_errors is None and told.teacher_errors == 0
    masked = torch.tensor([[0.0, 0.0, -math.inf]])
    assert metrics.against_teacher(masked, masked, torch.tensor([0])).kl == 0
    opposite = says(0, 1, classes=2, sure=1e4)
    assert metrics.against_teacher(opposite, opposite.flip(0), torch.tensor([0, 1])).kl == 1e4


def test_best_class_order_undoes_a_permutation():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert metrics.best_class_order(says(2, 2, 0, 0, 1, 0, classes=3), labels) == ([2, 0, 1], 5 / 6)
