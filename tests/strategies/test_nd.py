"""Norm and direction of embeddings (nd)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fits import assert_every_parameter_learns
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.nd import NormDirection


def reference_nd(e_s, e_t, centers, y):
    total = 0.0
    for s, t, label in zip(e_s, e_t, y, strict=True):
        c = centers[label]
        total += 1 - s @ c / np.linalg.norm(c) / max(np.linalg.norm(s), np.linalg.norm(t))
    return total / len(e_s)


class TestND(MethodTester):
    configs = ("nd",)
    cases = {
        "nd": [
            Case(
                reference_nd,
                student={"e_s": scale * draw(5, 3)},
                teacher={"e_t": draw(5, 3, seed=1)},
                rest={"centers": draw(4, 3, seed=2), "y": torch.tensor([0, 3, 1, 1, 2])},
                extreme=True,
            )
            for scale in (1, 4)
        ],
    }
    mutations = [
        ("nd", "e_t=e_t.detach()", "e_t=e_t", "a gradient to the teacher"),
        ("nd", "(1 - along", "(1 + along", "a lost sign"),
        ("nd", "torch.maximum(", "torch.minimum(", "the shorter norm"),
        ("nd", "for e in (e_s, e_t)))", "for e in (e_s.detach(), e_t)))", "the student's norm detached"),
        ("nd", "unit(centers.detach().to(e_s.dtype))", "centers.detach().to(e_s.dtype)", "centres not normalised"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(UserError, match="centers must"):
        functional.nd(draw(2, 3), draw(2, 3), draw(4, 5), torch.arange(2))
    with pytest.raises(UserError, match="y must"):
        functional.nd(draw(2, 3), draw(2, 3), draw(4, 3), torch.arange(3))


def test_nd_of_known_vectors():
    e_s, e_t = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    centers = torch.tensor([[0.0, 7.0], [2.0, 0.0]])
    value = functional.nd(e_s, e_t, centers, torch.tensor([0, 1]))  # 4 / 5 along, and 1 / 2
    assert value.item() == pytest.approx((0.2 + 0.5) / 2)


def test_the_centers_are_the_teachers_class_means_over_all_images():
    term = NormDirection()
    term.connect(info(), info(embedding=2))
    embedding, labels = draw(9, 2).float(), torch.tensor([0, 2, 0, 0, 2, 2, 0, 2, 0])
    parts = [
        (SimpleNamespace(embedding=e), SimpleNamespace(labels=y))
        for e, y in zip(embedding.split(4), labels.split(4), strict=True)
    ]
    term.prepare(labels, lambda: iter(parts))
    for label in (0, 2):
        torch.testing.assert_close(term.state_dict()["centers"][label], embedding[labels == label].mean(0))
    assert not term.centers[1].any()


def test_embeddings_of_one_width_are_compared_as_they_are():
    """As in the authors' resnet32x4 → resnet8x4 and resnet56 → resnet20, which have no layer in between."""
    term = NormDirection().train()
    term.connect(info(embedding=3), info(embedding=3))
    assert not list(term.parameters())
    term.centers.copy_(draw(10, 3, seed=2))
    e_s, e_t, y = draw(5, 3).float(), draw(5, 3, seed=1).float(), torch.tensor([0, 3, 1, 1, 2])
    given = (SimpleNamespace(embedding=e_s), SimpleNamespace(embedding=e_t), SimpleNamespace(labels=y))
    expected = reference_nd(*(x.double().numpy() for x in (e_s, e_t, term.centers)), y.numpy())
    assert term(*given).item() == pytest.approx(expected, rel=1e-5)


def test_those_of_another_width_go_through_batchnorm_dropout_and_a_linear_layer():
    term = NormDirection()
    term.connect(info(embedding=6), info(embedding=3))
    norm, dropout, linear = term.connector
    assert (norm.num_features, dropout.p, linear.in_features, linear.out_features) == (6, 0.5, 6, 3)
    term.centers.copy_(draw(10, 3, seed=2))
    given = (SimpleNamespace(embedding=draw(5, 6).float()), SimpleNamespace(embedding=draw(5, 3, seed=1).float()))
    term(*given, SimpleNamespace(labels=torch.tensor([0, 3, 1, 1, 2]))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in term.parameters())


def test_the_student_learns():
    assert_every_parameter_learns("nd")
