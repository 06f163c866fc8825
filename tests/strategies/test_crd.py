"""Contrast with a memory of embeddings: its loss, what is drawn and compared, and how it moves (crd)."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import LARGE, SMALL, info, outputs
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.crd import CRD


def reference_crd_nce(scores, n_data):
    """Row by row, score by score."""
    c, total = (scores.shape[1] - 1) / n_data, 0.0
    for row in scores:
        total += math.log(row[0] / (row[0] + c + 1e-7))
        total += sum(math.log(c / (x + c + 1e-7)) for x in row[1:])
    return -total / len(scores)


LABELS, PAIR = torch.tensor([2, 0, 1, 0, 2, 2, 1, 0, 2, 2]), SimpleNamespace(index=torch.tensor([4, 1]))


class TestCRD(MethodTester):
    configs = ("crd",)
    cases = {
        "crd_nce": [
            Case(reference_crd_nce, student={"scores": draw(4, 6).abs() + 0.05}, teacher={}, rest={"n_data": n})
            for n in (7, 500)
        ],
    }
    mutations = [
        ("crd_nce", "log_negatives.sum(1)", "log_negatives.mean(1)", "mean over the negatives"),
        ("crd_nce", "(negatives + EPSILON) / c", "negatives / c", "ε lost"),
        ("crd_nce", "return -(log_positive", "return (log_positive", "a lost sign"),
        ("crd_nce", "negatives.shape[1] / n_data", "scores.shape[1] / n_data", "the positive among the negatives"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.crd_nce(draw(2, 1), 5), "scores must"),
        (lambda: functional.crd_nce(draw(2, 3), 0), "n_data must"),
        (lambda: CRD(momentum=1.0), "momentum must"),
        (lambda: CRD(negatives=0), "negatives must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


def test_a_positive_that_underflowed_stays_finite():
    scores = torch.tensor([[0.0, 1.0], [1e-38, 0.0]], requires_grad=True)
    value = functional.crd_nce(scores, 10)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(scores.grad).all()


def test_a_model_without_an_embedding_is_refused():
    with pytest.raises(UserError, match=r"headless has no linear head.*student\.head=fc"):
        CRD().connect(info((4, 8, 8), embedding=None, name="headless"), SMALL)


def contrast(**arguments):
    term = CRD(**{"dimensions": 4, "negatives": 3} | arguments)
    torch.manual_seed(0)
    term.connect(SMALL, LARGE)
    term.prepare(LABELS, None)
    return term


def test_negatives_are_of_other_classes_each_as_often_and_repeatable():
    term, index = contrast(negatives=5), torch.arange(10)
    torch.manual_seed(3)
    drawn = term._draw(index.repeat(2000))
    assert drawn.shape == (20000, 5) and not (LABELS[drawn] == LABELS[index.repeat(2000)][:, None]).any()
    share = drawn.view(2000, 10, 5).transpose(0, 1).flatten(1)[0].bincount(minlength=10) / 10000
    assert torch.allclose(share, (LABELS[0] != LABELS) / 5, atol=0.02)
    torch.manual_seed(3)
    assert torch.equal(term._draw(index.repeat(2000)), drawn)


def test_the_loss_z_and_the_memory_by_hand():
    term = contrast(temperature=0.5, momentum=0.25)
    student, teacher, batch = outputs(SMALL, 0, 2), outputs(LARGE, 9, 2), PAIR
    before = {side: getattr(term, f"memory_{side}").clone() for side in ("student", "teacher")}
    torch.manual_seed(7)
    compared = torch.cat([batch.index[:, None], term._draw(batch.index)], 1)
    torch.manual_seed(7)
    value, expected, new = term(student, teacher, batch), 0.0, {}
    sides = {"student": (student, "teacher"), "teacher": (teacher, "student")}
    for side, (read, other) in sides.items():
        anchors = getattr(term, f"{side}_projection")(read.embedding)
        new[side] = anchors / anchors.norm(dim=1, keepdim=True)
        scores = torch.stack([(before[other][row] @ a / 0.5).exp() for row, a in zip(compared, new[side], strict=True)])
        expected += functional.crd_nce(scores / (scores.mean() * 10), 10).item()
        assert getattr(term, f"log_z_{side}").item() == pytest.approx(math.log(scores.mean().item() * 10), rel=1e-5)
        moved = before[side].clone()
        for row, at in enumerate(batch.index):
            mixed = 0.25 * before[side][at] + 0.75 * new[side][row]
            moved[at] = (mixed / mixed.norm()).detach()
        assert torch.allclose(getattr(term, f"memory_{side}"), moved, atol=1e-6)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()  # the memory has moved since
    assert student.embedding.grad.abs().sum() > 0 and teacher.embedding.grad is None
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())
    z = term.log_z_student.clone()
    term(student, teacher, batch)
    assert torch.equal(z, term.log_z_student)


def test_a_trial_in_eval_mode_leaves_no_trace():
    term = contrast().eval()
    before = {name: x.clone() for name, x in term.state_dict().items()}
    term(outputs(SMALL, 0, 2), outputs(LARGE, 9, 2), PAIR)
    assert {"memory_student", "log_z_teacher"} < before.keys()
    assert all(torch.equal(x, before[name]) for name, x in term.state_dict().items())


def test_fewer_negatives_are_said_and_one_class_is_refused(capsys):
    assert contrast(negatives=16384).drawn == 5 and "5 negatives instead of 16384" in capsys.readouterr().out
    term = CRD()
    term.connect(SMALL, LARGE)
    with pytest.raises(UserError, match="have one; take rkd"):
        term.prepare(torch.zeros(4, dtype=torch.int64), None)
    with pytest.raises(UserError, match="has not seen the training data"):
        term(outputs(SMALL, 0), outputs(LARGE, 9), SimpleNamespace(index=torch.arange(5)))
