"""Refined logit distillation (rld)."""

import torch
from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import kl, mean_of_rows, softmax, target_and_rest

from distillab import functional


def rld_row(s, t, y, alpha, beta, temperature, alpha_temperature):
    confidence = kl(target_and_rest(t / alpha_temperature, t.argmax()), target_and_rest(s / alpha_temperature, y))
    below = [c for c in range(len(t)) if t[c] < t[y]]
    rest = kl(softmax(t[below] / temperature), softmax(s[below] / temperature)) if below else 0.0
    return alpha * alpha_temperature**2 * confidence + beta * temperature**2 * rest


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestRLD(LogitsTester):
    configs = ("rld",)
    cases = {
        "rld": cases(
            mean_of_rows(rld_row),
            {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "alpha_temperature": 1.0},
            {"alpha": 2.0, "beta": 0.5, "temperature": 1.0, "alpha_temperature": 4.0},
        ),
    }
    mutations = [
        ("rld", *NO_DETACH),
        ("rld", "t.argmax(-1)", "y", "the teacher's confidence in the label"),
        ("rld", "t >= t.gather", "t > t.gather", "the label left among those below"),
        ("rld", "alpha_temperature**2 * kl", "kl", "Tα² dropped"),
    ]


def test_rld_of_a_label_that_the_teacher_likes_least_has_no_class_below():
    s, t = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True), torch.tensor([[5.0, 4.0, -1.0]])
    value = functional.rld(s, t, torch.tensor([2]), alpha=0.0)
    value.backward()
    assert value.item() == 0 and not s.grad.any()
