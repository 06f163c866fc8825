"""Neighbours of a frozen backbone, in a queue and among the places of an image (foundation)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fits import (
    assert_equal,
    assert_every_parameter_learns,
    distillation,
    stopped_and_resumed,
    trainer,
    weights,
)
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels
from helpers.model_outputs import LARGE, SMALL, info, outputs
from helpers.numbers import draw, kl, norm, pooled, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.base import Outputs
from distillab.strategies.foundation import Foundation, Patches

EMBEDDINGS = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 3, seed=1)}}
ANCHORS = torch.nn.functional.normalize(draw(4, 3, seed=2))
KNOWN = torch.tensor([True, False, True, True])


def neighbours(e_s, e_t, anchors, temperature=0.07, known=None):
    """Sample by sample, anchor by anchor."""
    kept = [a for i, a in enumerate(anchors) if known is None or known[i]]
    total = 0.0
    for s, t in zip(e_s, e_t, strict=True):
        p, q = (softmax(np.array([float(a @ e) / norm(e) / temperature for a in kept])) for e in (t, s))
        total += kl(p, q)
    return total / len(e_s)


def patches(F_s, F_t, temperature=0.07):
    """Place by place; a teacher's map of another size is averaged block by block."""
    if F_t.shape[2] > F_s.shape[2]:
        F_t = pooled(F_t, F_s.shape[2])
    places, rows = [(i, j) for i in range(F_s.shape[2]) for j in range(F_s.shape[3])], []
    for s, t in zip(F_s, F_t, strict=True):
        for one in places:
            sides = []
            for x in (t, s):
                to = [float(x[:, *one] @ x[:, *o]) / (norm(x[:, *one]) * norm(x[:, *o]) or 1) for o in places]
                sides.append(softmax(np.array(to) / temperature))
            rows.append(kl(*sides))
    return sum(rows) / len(rows)


def maps(channels, side):
    return {"student": {"F_s": draw(2, 3, 2, 2)}, "teacher": {"F_t": draw(2, channels, side, side, seed=1)}}


class TestFoundation(MethodTester):
    configs = ("foundation",)
    cases = {
        "neighbour_kl": [
            Case(neighbours, **EMBEDDINGS, rest={"anchors": ANCHORS}),
            Case(neighbours, **EMBEDDINGS, rest={"anchors": ANCHORS, "temperature": 0.5, "known": KNOWN}),
        ],
        "patch_kl": [
            Case(patches, **maps(3, 2)),
            Case(patches, **maps(5, 4), rest={"temperature": 0.5}),
        ],
    }
    mutations = [
        ("neighbour_kl", "e_s=e_s, e_t=e_t.detach())\n    alike", "e_s=e_s, e_t=e_t)\n    alike", "a gradient to the teacher"),
        ("neighbour_kl", "inner(unit(e), anchors", "inner(e, anchors", "embeddings of any length"),
        ("neighbour_kl", "x.masked_fill(~known, LEAST)", "x", "what is not known is an anchor too"),
        ("neighbour_kl", "in alike)\n    return kl(log_t, log_s)", "in alike)\n    return kl(log_s, log_t)", "KL turned round"),
        ("patch_kl", "F_s=F_s, F_t=F_t.detach()", "F_s=F_s, F_t=F_t", "a gradient to the teacher"),
        ("patch_kl", "unit(x.flatten(2).mT)", "x.flatten(2).mT", "places of any length"),
        ("patch_kl", "unit(x.flatten(2).mT)", "unit(x.flatten(2))", "channels, not places"),
        ("patch_kl", "in sides)\n    return kl(log_t, log_s).mean()", "in sides)\n    return kl(log_t, log_s).sum(1).mean()", "a sum over places"),
    ]  # fmt: skip
    by_hand = {"Foundation": lambda: test_the_loss_and_the_queue_by_hand()}
    hand_mutations = [
        ("Foundation", "anchors[: self.queue]", "anchors[-self.queue :]", "the oldest kept"),
        ("Foundation", "len(newest) + self.filled", "self.filled", "the batch itself no anchor"),
        ("Foundation", "unit(teacher.embedding.detach()", "(teacher.embedding.detach()", "anchors of any length"),
    ]


@pytest.mark.parametrize("name", ["neighbour_kl", "patch_kl"])
def test_what_is_alike_costs_nothing_and_a_temperature_of_zero_is_refused(name):
    call = getattr(functional, name)
    both = (draw(5, 3), 2 * draw(5, 3), ANCHORS) if name == "neighbour_kl" else (draw(2, 3, 2, 2), 2 * draw(2, 3, 2, 2))
    assert call(*both).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(UserError, match="temperature must be a number above 0"):
        call(*both, temperature=0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.neighbour_kl(draw(2, 3), draw(2, 4), ANCHORS), "e_s and e_t must have one shape"),
        (lambda: functional.neighbour_kl(draw(2, 4), draw(2, 4), ANCHORS), r"anchors must be \(M, 4\)"),
        (lambda: functional.patch_kl(draw(2, 3, 2, 2), draw(3, 3, 2, 2)), "F_s and F_t must be"),
        (lambda: Foundation(queue=0), "queue must be a whole number from 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


def test_zeros_and_equal_rows_have_small_gradients():
    check_dead_channels(functional.patch_kl)
    zeros = torch.zeros(4, 3, requires_grad=True)
    functional.neighbour_kl(zeros, draw(4, 3).float(), ANCHORS.float()).backward()
    assert zeros.grad.abs().max() < 1e3


def connected(**numbers):
    torch.manual_seed(0)
    term = Foundation(**numbers)
    term.connect(SMALL, LARGE)
    return term


def step(term, seed):
    student, teacher = outputs(SMALL, seed, 3), outputs(LARGE, seed + 40, 3)
    return term(student, teacher, None), student, teacher


def test_the_loss_and_the_queue_by_hand():
    """Three steps of three samples each, of which the queue keeps five."""
    term, seen = connected(queue=5, temperature=0.2), []
    for number in range(3):
        loss, student, teacher = step(term, number)
        unit = torch.nn.functional.normalize(teacher.embedding.detach())
        anchors = torch.cat([unit, *seen])[:8]
        projected = term.projector(student.embedding).detach()
        expected = neighbours(*(x.double().numpy() for x in (projected, teacher.embedding.detach(), anchors)), 0.2)
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        seen = [torch.cat([unit, *seen])[:5]]
        assert torch.allclose(term.remembered[: len(seen[0])], seen[0], atol=1e-6)
        assert term.filled == len(seen[0]) == min(3 * (number + 1), 5)
    loss.backward()  # the queue has moved since
    assert student.embedding.grad.abs().sum() > 0 and teacher.embedding.grad is None
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())


def test_a_trial_in_eval_mode_leaves_no_trace():
    term = connected().eval()
    step(term, 0)
    assert {"remembered", "filled"} < term.state_dict().keys() and not term.filled and not term.remembered.any()


def test_what_the_terms_train():
    assert_every_parameter_learns("foundation")


def test_the_queue_of_a_resumed_fit_is_the_unbroken_ones(few_digits, tmp_path):
    """Stopped while it grows: behind the third of six steps, with 192 of 300 known."""

    def make():
        return distillation({"foundation": Foundation(queue=300)})

    data = lambda module: few_digits.configure(64, 0)  # noqa: E731
    whole, queue = make(), "strategy.terms.foundation.remembered"
    trainer(3).fit(whole, datamodule=data(whole))
    resumed = stopped_and_resumed(make, data, 3, 3, tmp_path)
    assert_equal(weights(whole), resumed)
    assert resumed["strategy.terms.foundation.filled"] == 300 and resumed[queue].abs().sum(1).all()


def test_places_are_compared_where_there_are_several():
    flat = info((4, 4, 4), (6, 2, 2), (8, 1, 1))
    term = Patches()
    term.connect(flat, LARGE)
    assert term.pair == [1, 1]
    rows = draw(2, 6, 2, 2).float(), draw(2, 3, 2, 2, seed=1).float()
    student, teacher = (Outputs([SimpleNamespace(stages=[None, x, None])]) for x in rows)
    assert term(student, teacher, None).item() == pytest.approx(functional.patch_kl(*rows).item())
    with pytest.raises(UserError, match=r"net have one each.*student\.stages=.*~strategy\.patches"):
        term.connect(info((8, 1, 1)), LARGE)


def test_a_small_map_of_the_teacher_is_resized_to_the_students():
    F_s, F_t = draw(2, 3, 4, 4), draw(2, 5, 2, 2, seed=1)
    larger = torch.nn.functional.interpolate(F_t, (4, 4), mode="bilinear")
    assert functional.patch_kl(F_s, F_t).item() == pytest.approx(functional.patch_kl(F_s, larger).item(), rel=1e-12)


def test_a_model_without_an_embedding_is_refused():
    with pytest.raises(UserError, match=r"headless has no linear head.*teacher\.head=fc"):
        Foundation().connect(SMALL, info((4, 8, 8), embedding=None, name="headless"))
