"""Standardised embeddings through a projector (srd)."""

import math

import pytest
import torch
from helpers.fits import assert_every_parameter_learns
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import LARGE, SMALL, info, outputs
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.srd import SRD

EMBEDDINGS = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 3, seed=1)}}


def reference_srd(e_s, e_t, eps=1e-4):
    """Channel by channel, sample by sample."""
    total = 0.0
    for s, t in zip(e_s.T, e_t.T, strict=True):
        sides = []
        for values in (s, t):
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            sides.append([(v - mean) / math.sqrt(variance + eps) for v in values])
        total += sum((a - b) ** 4 for a, b in zip(*sides, strict=True))
    return math.log(total)


class TestSRD(MethodTester):
    configs = ("srd",)
    cases = {
        "srd": [
            Case(reference_srd, **EMBEDDINGS, refuses_one=True),
            Case(reference_srd, **EMBEDDINGS, rest={"eps": 0.1}, refuses_one=True),
        ],
    }
    mutations = [
        ("srd", ".square().square().sum()", ".square().sum()", "squares, not fourth powers"),
        ("srd", ".square().square().sum()", ".square().square().mean()", "mean over entries"),
        ("srd", "centred.square().mean(0)", "centred.square().mean(0) * len(e) / (len(e) - 1)", "variance over N − 1"),
        ("srd", "e - e.mean(0)", "e - e.mean(0).detach()", "the student's mean held constant"),
        (
            "srd",
            "(centred.square().mean(0) + eps).sqrt()",
            "(centred.square().mean(0).sqrt() + eps)",
            "ε outside the root",
        ),
        ("srd", "e_t=e_t.detach()", "e_t=e_t", "a gradient to the teacher"),
    ]


def test_neither_scale_nor_shift_of_a_channel_counts():
    e_s, e_t = draw(6, 3), draw(6, 3, seed=1)
    scale, shift = torch.tensor([2.0, 0.5, 7.0]), torch.tensor([1.0, -3.0, 0.0])
    moved = functional.srd(scale * e_s + shift, e_t, eps=0)
    assert moved.item() == pytest.approx(functional.srd(e_s, e_t, eps=0).item(), rel=1e-12)


def test_equal_embeddings_have_a_finite_value_and_no_gradient():
    e_s = draw(4, 3).float().requires_grad_()
    value = functional.srd(e_s, e_s.detach())
    value.backward()
    assert torch.isfinite(value) and value < -80 and not e_s.grad.any()


def test_shapes_that_differ_and_one_row_are_refused():
    with pytest.raises(UserError, match="must have one shape"):
        functional.srd(draw(2, 3), draw(2, 4))
    with pytest.raises(UserError, match="at least 2 rows"):
        functional.srd(draw(1, 3), draw(1, 3))
    with pytest.raises(UserError, match=r"headless has no linear head.*teacher\.head=fc"):
        SRD().connect(SMALL, info((4, 8, 8), embedding=None, name="headless"))


def test_the_term_is_the_loss_of_the_projected_embedding():
    torch.manual_seed(0)
    term, student, teacher = SRD(), outputs(SMALL, 0), outputs(LARGE, 9)
    term.connect(SMALL, LARGE)
    projected = student.embedding @ term.projector.weight.T
    expected = reference_srd(projected.detach().double().numpy(), teacher.embedding.detach().double().numpy())
    assert term(student, teacher, None).item() == pytest.approx(expected, rel=1e-5)


def test_what_the_term_trains():
    assert_every_parameter_learns("srd")
