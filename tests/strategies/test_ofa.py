"""Exits at the student's stages, and a teacher whose target is raised (ofa)."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.fits import distillation, make_batch, make_images
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, LogitsTester
from helpers.model_outputs import LARGE, info, outputs
from helpers.numbers import draw, mean_of_rows, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.base import Outputs
from distillab.strategies.ofa import OFA, Exits


def ofa_row(s, t, y, eps=1.0, temperature=1.0):
    """Class by class, as the authors write it."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    return -sum(((p[c] + (c == y)) ** eps - (c == y)) * math.log(q[c]) for c in range(len(p)))


def case(**rest):
    return Case(mean_of_rows(ofa_row), **LOGITS, rest={"y": LABELS} | rest, extreme=True)


class TestOFA(LogitsTester):
    configs = ("ofa",)
    cases = {"ofa": [case(), case(eps=1.5), case(eps=1.4, temperature=2.0)]}
    mutations = [
        ("ofa", "torch.expm1(eps * ", "torch.exp(eps * ", "the target's own m not taken off"),
        ("ofa", "torch.log1p(log_p.exp())", "log_p", "the target not raised"),
        ("ofa", "share = (eps * log_p).exp()", "share = log_p.exp()", "ε for the target alone, as the paper has it"),
        ("ofa", "(s, t, temperature)", "(s, t, 1.0)", "no temperature"),
        ("ofa", "return -(goal", "return (goal", "a lost sign"),
    ]
    by_hand = {"Exits": lambda: test_the_exits_are_the_sum_of_the_loss_over_the_stages()}
    hand_mutations = [
        ("Exits", "torch.stack(rows).sum(0)", "torch.stack(rows).mean(0)", "a mean over the stages"),
        ("Exits", "**self.numbers()", "", "its numbers left out"),
    ]


def test_one_is_the_soft_cross_entropy_and_more_raises_the_target():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    soft = -(t.softmax(1) * s.log_softmax(1)).sum(1).mean()
    assert functional.ofa(s, t, LABELS).item() == pytest.approx(soft.item(), rel=1e-12)
    s.requires_grad_()
    (one,) = torch.autograd.grad(functional.ofa(s, t, LABELS), s)
    (more,) = torch.autograd.grad(functional.ofa(s, t, LABELS, eps=2.0), s)
    rows = torch.arange(5)
    assert (more[rows, LABELS] < one[rows, LABELS]).all(), "the target is pulled up harder"


@pytest.mark.parametrize("term", [OFA, Exits])
def test_an_exponent_of_zero_is_refused(term):
    with pytest.raises(UserError, match="eps must be a number above 0, got 0"):
        term(eps=0)


STUDENT = info((4, 8, 8), (6, 4, 4), (8, 1, 1), embedding=8)


def test_the_exits_are_the_sum_of_the_loss_over_the_stages():
    torch.manual_seed(0)
    term = Exits(eps=1.5, temperature=2.0)
    term.connect(STUDENT, LARGE)
    student = outputs(STUDENT, 0)
    teacher = Outputs([SimpleNamespace(logits=draw(5, 10, seed=3).float())])
    rows = term.feature_rows(student, teacher, SimpleNamespace(labels=LABELS))
    expected = 0.0
    for leave, x in zip(term.exits, student.stages, strict=True):
        expected += functional.ofa(leave(x), teacher.logits, LABELS, eps=1.5, temperature=2.0)
    assert rows.shape == (5,) and rows.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    rows.mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in term.parameters())
    assert all(x.grad.abs().sum() > 0 for x in student.stages)


def test_an_exit_halves_its_map_once_for_every_later_stage():
    term, sizes = Exits(), []
    term.connect(STUDENT, LARGE)
    for leave in term.exits:
        leave.body.register_forward_hook(lambda _, __, x: sizes.append(tuple(x.shape[1:])))
    term.exits[0](draw(2, 4, 8, 8).float())
    term.exits[1](draw(2, 6, 4, 4).float())
    term.exits[2](draw(2, 8, 1, 1).float())
    assert sizes == [(8, 2, 2), (8, 2, 2), (8, 1, 1)]  # as wide as the student's own embedding, LARGE's has 7
    one = draw(1, 6, 1, 1).float()  # one sample, one place: nothing to normalise over
    assert torch.isfinite(term.exits[1](one)).all()


def test_a_teacher_that_shows_its_logits_alone_will_do():
    Exits().connect(STUDENT, info(embedding=None))


def test_what_the_term_trains():
    part = lambda module: module.strategy.terms["exits"].exits[0].parameters()  # noqa: E731
    module = distillation("ofa")
    losses = module.losses(make_batch(make_images()), ("ofa", "exits"))
    for parameters in (module.student.net.layer1.parameters(), part(module)):
        gradients = torch.autograd.grad(losses["exits"], list(parameters), retain_graph=True)
        assert all(g.abs().sum() > 0 for g in gradients)
    assert losses["exits"] > losses["ofa"] > 0
