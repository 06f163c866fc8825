"""Correlation congruence of neighbours in a batch (cc)."""

from itertools import product

import pytest
from helpers.method_checks import Case
from helpers.method_tester import RelationsTester
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab.core.errors import UserError
from distillab.strategies.cc import CorrelationCongruence
from distillab.strategies.strategy import Strategy

EQUAL = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 3, seed=1)}}


def reference_cc(e_s, e_t):
    n, d = e_s.shape
    total = 0.0
    for i, c in product(range(n - 1), range(d)):
        total += abs(e_s[i, c] - e_t[i, c]) * abs(e_s[i + 1, c] - e_t[i + 1, c])
    return total / (n - 1)


class TestCC(RelationsTester):
    configs = ("cc",)
    cases = {
        "correlation_congruence": [Case(reference_cc, **EQUAL, extreme=True, refuses_one=True)],
    }
    mutations = [
        ("correlation_congruence", ".sum(1).mean()", ".mean()", "mean over the embedding, not its sum"),
        ("correlation_congruence", "(e_s - e_t).abs()", "(e_s - e_t)", "signs kept"),
        ("correlation_congruence", "e_t.detach()", "e_t", "a gradient to the teacher"),
    ]


def test_only_the_students_projection_trains():
    specs = info(name="small"), info(embedding=8, name="large")
    term = CorrelationCongruence(width=4)
    term.connect(*specs)
    assert {n for n, p in term.named_parameters() if p.requires_grad} == {
        "student_projection.weight",
        "student_projection.bias",
    }
    assert "teacher_projection.weight" in term.state_dict()  # a resumed run must compare with the same one


def test_a_model_without_a_head_is_refused():
    headless = info(embedding=None, name="headless")
    with pytest.raises(UserError, match=r"strategy\.cc: headless has no linear head .* teacher\.head=fc"):
        Strategy({"cc": CorrelationCongruence()}).connect(info(name="small"), headless, 0)
