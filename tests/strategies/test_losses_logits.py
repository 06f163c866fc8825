"""Losses on logits against a second way, class by class: dkd, nkd, wsld, rld, ttm, dist."""

import math

import numpy as np
import pytest
import torch
from helpers.loss_checks import CHECKS, Case, draw, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.dist import DIST
from distillab.strategies.strategy import Strategy


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def pair(z, y):
    """(target, rest) of one row."""
    p = softmax(z)
    return [p[y], sum(p[c] for c in range(len(p)) if c != y)]


def mean_of_rows(reference):
    """A reference over the batch from one for a row."""
    return lambda s, t, **rest: np.mean(
        [
            reference(*row, **{k: v for k, v in rest.items() if k != "y"})
            for row in zip(s, t, *([rest["y"]] if "y" in rest else []), strict=True)
        ]
    )


def dkd_row(s, t, y, alpha, beta, temperature):
    s, t = s / temperature, t / temperature
    rest = kl(softmax(np.delete(t, y)), softmax(np.delete(s, y)))
    return temperature**2 * (alpha * kl(pair(t, y), pair(s, y)) + beta * rest)


def nkd_row(s, t, y, gamma, temperature):
    p, q = (softmax(np.delete(z, y) / temperature) for z in (t, s))
    rest = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return -softmax(t)[y] * math.log(softmax(s)[y]) + gamma * temperature**2 * rest


def wsld_row(s, t, y, temperature):
    ratio = -math.log(softmax(s)[y]) / (-math.log(softmax(t)[y]) + 1e-7)
    p, q = softmax(t / temperature), softmax(s / temperature)
    return temperature**2 * (1 - math.exp(-ratio)) * -sum(p * np.log(q))


def wsld_gradient(s, t, y, temperature):
    """With the weight of each sample held constant."""
    rows = []
    for one, other, label in zip(s, t, y, strict=True):
        weight = 1 - math.exp(math.log(softmax(one)[label]) / (-math.log(softmax(other)[label]) + 1e-7))
        rows.append(temperature * weight * (softmax(one / temperature) - softmax(other / temperature)))
    return np.stack(rows) / len(s)


def ttm_row(s, t, gamma, weighted=False):
    power = softmax(t) ** gamma
    return kl(power / power.sum(), softmax(s)) * (power.sum() if weighted else 1)


def rld_row(s, t, y, alpha, beta, temperature, alpha_temperature):
    confidence = kl(pair(t / alpha_temperature, t.argmax()), pair(s / alpha_temperature, y))
    below = [c for c in range(len(t)) if t[c] < t[y]]
    rest = kl(softmax(t[below] / temperature), softmax(s[below] / temperature)) if below else 0.0
    return alpha * alpha_temperature**2 * confidence + beta * temperature**2 * rest


def pearson(a, b):
    a, b = a - sum(a) / len(a), b - sum(b) / len(b)
    return sum(a * b) / (math.sqrt(sum(a * a)) * math.sqrt(sum(b * b)) + 1e-8)


def reference_dist(s, t, beta, gamma, temperature):
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = 1 - np.mean([pearson(a, b) for a, b in zip(p, q, strict=True)])
    columns = 1 - np.mean([pearson(a, b) for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * columns)


LOGITS = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1)}}
LABELS = torch.tensor([0, 6, 2, 2, 5])
# Sure of the labels: the weights are 1 to within finite differences, as they must be where they are held constant.
SURE = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1) + 4 * torch.eye(7)[LABELS]}}


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


CASES = {
    "dkd": cases(
        mean_of_rows(dkd_row),
        {"alpha": 1.0, "beta": 8.0, "temperature": 4.0},
        {"alpha": 3.0, "beta": 0.5, "temperature": 1.0},
    ),
    "nkd": cases(mean_of_rows(nkd_row), {"gamma": 1.5, "temperature": 1.0}, {"gamma": 3.5, "temperature": 3.0}),
    "wsld": cases(mean_of_rows(wsld_row), {"temperature": 2.0}, logits=SURE)
    + cases(mean_of_rows(wsld_row), {"temperature": 2.0}, gradient=wsld_gradient),  # weights far from 1
    "ttm": cases(mean_of_rows(ttm_row), {"gamma": 0.3}, {"gamma": 1.0}, labels=False),
    "wttm": cases(
        lambda s, t, gamma: mean_of_rows(ttm_row)(s, t, gamma=gamma, weighted=True), {"gamma": 0.3}, labels=False
    ),
    "rld": cases(
        mean_of_rows(rld_row),
        {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "alpha_temperature": 1.0},
        {"alpha": 2.0, "beta": 0.5, "temperature": 1.0, "alpha_temperature": 4.0},
    ),
    "dist": cases(
        reference_dist,
        {"beta": 1.0, "gamma": 1.0, "temperature": 4.0},
        {"beta": 2.0, "gamma": 0.5, "temperature": 1.0},
        labels=False,
        refuses_one=True,
    ),
}
NO_DETACH = "s, t = widened(s, t)", "s, t = widened(s, t)[0], t", "a gradient to the teacher"
MUTATIONS = [
    *((name, *NO_DETACH) for name in CASES),
    ("dkd", "temperature**2 * kl", "kl", "T² dropped"),
    (
        "dkd",
        "kl(log_pair(t / temperature, y), log_pair(s / temperature, y))",
        "kl(log_pair(s / temperature, y), log_pair(t / temperature, y))",
        "KL turned round",
    ),
    ("dkd", "kd_rows(others(s, y), others(t, y)", "kd_rows(s, t", "the target left among the others"),
    ("nkd", "temperature**2 * rest", "rest", "T² dropped"),
    ("nkd", "t.softmax(-1).gather", "(t / temperature).softmax(-1).gather", "the target softened too"),
    ("nkd", "(others(t, y) / temperature).softmax(-1)", "others((t / temperature).softmax(-1), y)", "not renormalised"),
    ("wsld", "temperature**2 * weights", "weights", "T² dropped"),
    ("wsld", "student_ce / (teacher_ce", "teacher_ce / (student_ce", "the ratio turned round"),
    ("wsld", "s.detach(), t)", "s, t)", "a gradient through the weights"),
    ("wsld", "-torch.expm1(", "torch.exp(", "1 − dropped"),
    (
        "ttm",
        "kl(F.log_softmax(gamma * t, -1), F.log_softmax(s, -1))",
        "kl(F.log_softmax(s, -1), F.log_softmax(gamma * t, -1))",
        "KL turned round",
    ),
    ("ttm", "gamma * t, -1)", "t / gamma, -1)", "γ taken for a temperature"),
    ("wttm", "(gamma * log_teacher).exp()", "F.log_softmax(gamma * log_teacher, -1).exp()", "weights that are all 1"),
    ("wttm", "ttm.rows(s, t, gamma) * ", "ttm.rows(s, t, gamma) + 0 * ", "weights dropped"),
    ("rld", "t.argmax(-1)", "y", "the teacher's confidence in the label"),
    ("rld", "t >= t.gather", "t > t.gather", "the label left among those below"),
    ("rld", "alpha_temperature**2 * kl", "kl", "Tα² dropped"),
    ("dist", "1 - pearson(q, p).mean()", "1 + pearson(q, p).mean()", "an anti-loss"),
    ("dist", "pearson(q.T, p.T)", "pearson(q, p)", "rows twice"),
    ("dist", "temperature**2 * (beta", "(beta", "T² dropped"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


@pytest.mark.parametrize("name", CASES)
def test_arguments_that_do_not_go_together_are_refused(name):
    function, labels = getattr(functional, name), CASES[name][0].rest.get("y")
    rest = {} if labels is None else {"y": labels[:2]}
    with pytest.raises(UserError, match="s and t must be logits"):
        function(draw(2, 3), draw(2, 4), **rest)
    with pytest.raises(UserError, match=r"(temperature|gamma) must be a number above 0, got 0"):
        function(draw(2, 3), draw(2, 3), **rest, **({"gamma": 0} if "ttm" in name else {"temperature": 0}))
    if labels is not None:
        with pytest.raises(UserError, match="y must hold one class number"):
            function(draw(2, 3), draw(2, 3), y=labels[:1])
        with pytest.raises(UserError, match=r"y must be int64 class numbers, got torch\.int32"):
            function(draw(2, 3), draw(2, 3), y=labels[:2].int())
        for wrong in (-100, -1, 3):
            with pytest.raises(UserError, match=f"y must hold class numbers from 0 to 2, got {wrong}"):
                function(draw(2, 3), draw(2, 3), y=torch.tensor([wrong, 0]))


def test_the_weights_of_wsld_carry_no_gradient():
    s, t = draw(5, 7).requires_grad_(), draw(5, 7, seed=1)
    functional.wsld(s, t, LABELS, 2.0).backward()
    for row, (one, other, y) in enumerate(zip(s.detach().numpy(), t.numpy(), LABELS, strict=True)):
        p, q = softmax(other / 2), softmax(one / 2)
        weight = wsld_row(one, other, y, 2.0) / -sum(4 * p * np.log(q))
        np.testing.assert_allclose(s.grad[row], 2 * weight * (q - p) / 5, rtol=1e-9)


def test_rld_of_a_label_that_the_teacher_likes_least_has_no_class_below():
    s, t = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True), torch.tensor([[5.0, 4.0, -1.0]])
    value = functional.rld(s, t, torch.tensor([2]), alpha=0.0)
    value.backward()
    assert value.item() == 0 and not s.grad.any()


def test_dist_does_not_see_an_affine_change_of_probabilities():
    p = softmax(draw(5, 7).numpy())
    s = torch.from_numpy(np.log(0.5 * p + 0.5 / 7))
    assert functional.dist(s, torch.from_numpy(np.log(p))).item() == pytest.approx(0, abs=1e-6)


def test_dist_takes_a_last_batch_of_one_by_its_row_alone():
    from types import SimpleNamespace

    outputs = SimpleNamespace(logits=draw(1, 7)), SimpleNamespace(logits=draw(1, 7, seed=1))
    alone = functional.dist(*(o.logits for o in outputs), gamma=0.0, temperature=4.0)
    assert DIST()(*outputs, SimpleNamespace()) == alone > 0


@pytest.mark.parametrize("name", ["dkd.DKD", "nkd.NKD"])
def test_two_classes_are_refused(name, network):
    from distillab import Distillation

    term = {"_target_": f"distillab.strategies.{name}"}
    with pytest.raises(UserError, match=r"strategy\.x: compares the classes other than the target.*choose strategy=kd"):
        Distillation(network(classes=2), network(classes=2), Strategy.of({"x": term}), input_shape=(1, 8, 8))
    if name == "dkd.DKD":
        with pytest.raises(UserError, match="3 classes or more, got 2"):
            functional.dkd(draw(4, 2), draw(4, 2), torch.tensor([0, 1, 0, 1]))
