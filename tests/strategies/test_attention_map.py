"""Divergences of attention and of the relations between values (attention_kl, value_relation_kl)."""

import math

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.numbers import draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError

N, HEADS, L = 2, 3, 4
MASK = torch.tensor([[True, True, True, False], [False, True, True, True]])
VALUES = {"student": {"s": draw(N, HEADS, L, 2)}, "teacher": {"t": draw(N, HEADS, L, 5, seed=1)}}


def attention(seed):
    return draw(N, HEADS, L, L, seed=seed).softmax(-1)


def of_attention(s, t, mask=None):
    """Row by row."""
    rows = [
        kl(t[n, h, i], s[n, h, i])
        for n in range(N)
        for h in range(HEADS)
        for i in range(L)
        if mask is None or mask[n, i]
    ]
    return sum(rows) / len(rows)


def of_values(s, t, mask=None):
    """Position by position, over those that count."""
    rows = []
    for n in range(len(s)):
        kept = [i for i in range(L) if mask is None or mask[n, i]]
        for h in range(HEADS):
            for i in kept:
                relations = []
                for values in (t, s):
                    scores = [sum(values[n, h, i] * values[n, h, j]) / math.sqrt(values.shape[-1]) for j in kept]
                    relations.append(softmax(torch.tensor(scores).numpy()))
                rows.append(kl(*relations))
    return sum(rows) / len(rows)


MAPS = {"student": {"s": attention(0)}, "teacher": {"t": attention(1)}}


class TestAttentionMap(MethodTester):
    cases = {
        "attention_kl": [Case(of_attention, **MAPS), Case(of_attention, **MAPS, rest={"mask": MASK}, rows=False)],
        "value_relation_kl": [Case(of_values, **VALUES), Case(of_values, **VALUES, rest={"mask": MASK}, rows=False)],
    }
    mutations = [
        ("attention_kl", "(t * (t.clamp", "(s * (t.clamp", "weighted by the student"),
        ("attention_kl", ".log())).sum(-1)", ".log())).mean(-1)", "mean over positions"),
        ("attention_kl", "positions(x.transpose(1, 2), mask)", "positions(x.transpose(1, 2), None)", "all positions"),
        ("value_relation_kl", "kl(log_p, log_q)", "kl(log_q, log_p)", "KL turned round"),
        ("value_relation_kl", " / values.shape[-1] ** 0.5", "", "√d dropped"),
        ("value_relation_kl", "scores.masked_fill(~mask[:, None, None, :]", "scores.masked_fill(mask[:, None, None, :] & False",
         "padding among the relations"),
        ("value_relation_kl", "positions(kl(log_p, log_q).transpose(1, 2), mask)", "kl(log_p, log_q)", "all positions"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["attention_kl", "value_relation_kl"])
def test_equal_models_cost_nothing(name):
    same = attention(0)
    assert getattr(functional, name)(same, same, MASK).item() == pytest.approx(0, abs=1e-14)


def test_a_causal_mask_costs_nothing():
    """Places that no head may look at are 0 in both, and leave value and gradient finite; the rest is what it is alone."""
    causal = torch.ones(L, L).tril().bool()
    logits, t = draw(N, HEADS, L, L).requires_grad_(), draw(N, HEADS, L, L, seed=1)
    s = logits.masked_fill(~causal, -math.inf).softmax(-1)
    t = t.masked_fill(~causal, -math.inf).softmax(-1)
    value = functional.attention_kl(s, t)
    rows = [kl(t[n, h, i, : i + 1].tolist(), s[n, h, i, : i + 1].tolist()) for n in range(N) for h in range(HEADS) for i in range(L)]  # fmt: skip
    assert value.item() == pytest.approx(sum(rows) / len(rows))
    value.backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[..., ~causal].any()


def test_where_the_student_looks_not_at_all_it_stays_finite():
    s = torch.eye(2).expand(1, 1, 2, 2).clone().requires_grad_()
    value = functional.attention_kl(s, 1 - s.detach())
    value.backward()
    assert torch.isfinite(value) and value > 50 and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("name", ["attention_kl", "value_relation_kl"])
def test_what_an_ignored_position_holds_does_not_matter(name):
    s, t = (attention(0), attention(1)) if name == "attention_kl" else (draw(N, HEADS, L, 2), draw(N, HEADS, L, 5))
    first = getattr(functional, name)(s, t, MASK)
    for x in (s, t):
        x.movedim(2, 1)[~MASK] = torch.nan
    value = getattr(functional, name)(s.requires_grad_(), t, MASK)
    value.backward()
    assert value == first and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("name", ["attention_kl", "value_relation_kl"])
def test_arguments_that_do_not_go_together_are_refused(name):
    call, one = getattr(functional, name), attention(0)
    for other in (one[:, :2], one[:1], one[0]):
        with pytest.raises(UserError, match="s and t must be"):
            call(one, other)
    with pytest.raises(UserError, match=r"mask must be bool \(2, 4\)"):
        call(one, one, MASK.long())
