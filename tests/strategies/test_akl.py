"""Forward and reverse KL by where the models differ (akl)."""

import math

import numpy as np
import pytest
import torch
from helpers.divergences import DivergenceTester, cases
from helpers.numbers import draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.akl import AKL, head_share


def shares(p, q, mu):
    """The head, taken class by class from the likeliest on until it would be more than μ."""
    ranked = sorted(range(len(p)), key=lambda c: -p[c])
    head = []
    for c in ranked:
        if head and sum(p[k] for k in head) + p[c] > mu:
            break
        head.append(c)
    gaps = [abs(a - b) for a, b in zip(p, q, strict=True)]
    inside = sum(gaps[c] for c in head)
    return inside / sum(gaps), 1 - inside / sum(gaps)


def adaptive(p, q, mu=0.5):
    head, tail = shares(p, q, mu)
    return head * kl(p, q) + tail * kl(q, p)


def gradient(s, t, mu=0.5, temperature=1.0):
    """With the shares constant: q − p of forward KL, q · (log(q / p) − KL) of reverse KL."""
    rows = []
    for p, q in zip(softmax(t / temperature), softmax(s / temperature), strict=True):
        head, tail = shares(p, q, mu)
        rows.append(temperature * (head * (q - p) + tail * q * (np.log(q / p) - kl(q, p))) / len(s))
    return np.stack(rows)


class TestAKL(DivergenceTester):
    configs = ("akl",)
    cases = {"akl": cases(adaptive, {"temperature": 2.0, "mu": 0.7}, {}, {"mu": 0.05}, gradient=gradient)}
    mutations = [
        ("akl", "head[:, 0] = True", "pass", "the first class left to the tail"),
        ("akl", "(p - q).abs().gather(-1, order)", "(p - q).abs()", "gaps in another order"),
        (
            "akl",
            "(p - q).abs().gather(-1, order)",
            "(likeliest - q.sort(descending=True).values).abs()",
            "the student's classes in their own order",
        ),
        ("akl", "log_q.detach().exp(), log_p", "log_q.exp(), log_p", "a gradient through the shares"),
        ("akl", "(head * kl(log_p, log_q) + (1 - head) *", "((1 - head) * kl(log_p, log_q) + head *", "head for tail"),
        ("akl", "temperature**2 * (head", "(head", "T² dropped"),
    ]


def test_where_models_differ_in_the_tail_alone_it_is_reverse_kl():
    p, q = torch.tensor([[0.4, 0.3, 0.3]]).double(), torch.tensor([[0.4, 0.5, 0.1]]).double()
    assert head_share(q, p, 0.5).item() == 0
    found = functional.akl(q.log(), p.log()).item()
    assert found == pytest.approx(functional.reverse_kl(q.log(), p.log()).item())


def test_a_sure_teachers_first_class_is_the_head():
    p, q = torch.tensor([[0.9, 0.1]]).double(), torch.tensor([[0.5, 0.5]]).double()
    assert head_share(q, p, 0.5).item() == pytest.approx(0.5)
    both = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5), 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert functional.akl(q.log(), p.log()).item() == pytest.approx(sum(both) / 2)


def test_equal_probabilities_have_no_share_to_divide_by():
    p = draw(3, 5).softmax(-1)
    assert head_share(p, p, 0.5).tolist() == [1, 1, 1]


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_a_head_of_nothing_or_all_is_refused(mu):
    with pytest.raises(UserError, match=r"mu must be a number (above 0|below 1), got"):
        AKL(mu=mu)
