"""One divergence for each writer (distillm2)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.divergences import DivergenceTester, mixture, value_and_gradient
from helpers.fits import distillation, make_batch, make_images, strategy
from helpers.method_checks import Case
from helpers.method_tester import LOGITS
from helpers.numbers import draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.strategies.distillm2 import DistiLLM2
from distillab.tasks.causal_lm import LanguageModeling
from distillab.training.term_inputs import term_losses

WRITTEN = torch.tensor([False, True, True, False, True])
REST = {"alpha": 0.3, "beta": 0.6, "temperature": 2.0}


def reference(s, t, written=None, alpha=0.1, beta=1.0, temperature=1.0):
    total = 0.0
    for i, (p, q) in enumerate(zip(softmax(t / temperature), softmax(s / temperature), strict=True)):
        students = written is not None and written[i]
        total += beta * kl(q, mixture(q, p, alpha)) if students else (2 - beta) * kl(p, mixture(p, q, alpha))
    return temperature**2 * total / len(s)


def gradient(s, t, written, alpha=0.1, beta=1.0, temperature=1.0):
    """By the softmax's derivative: of Σ q · log(q / m) with m constant, and of Σ p · log(p / m) with m of q."""
    rows = []
    for i, (p, q) in enumerate(zip(softmax(t / temperature), softmax(s / temperature), strict=True)):
        student = np.log(q / (alpha * q + (1 - alpha) * p)) + 1
        teacher = -(1 - alpha) * p / (alpha * p + (1 - alpha) * q)
        by_q = beta * student if written[i] else (2 - beta) * teacher
        rows.append(temperature * q * (by_q - (q * by_q).sum()) / len(s))
    return np.stack(rows)


class TestDistiLLM2(DivergenceTester):
    configs = ("distillm2",)
    cases = {
        "distillm2": [
            Case(reference, **LOGITS, rest=REST, extreme=True),
            Case(reference, **LOGITS, rest=REST | {"written": WRITTEN}, extreme=True, gradient=gradient),
        ],
    }
    mutations = [
        ("distillm2", "(2 - beta)", "beta", "β for both"),
        ("distillm2", "torch.where(written,", "torch.where(~written,", "the writers exchanged"),
        ("distillm2", "log_mixture(log_q, log_p, alpha)", "log_mixture(log_p, log_q, alpha)", "shares exchanged"),
        ("distillm2", "log_p, alpha).detach()", "log_p, alpha)", "a gradient through the mixture"),
        ("distillm2", "beta * temperature**2 * kl", "beta * kl", "T² dropped"),
    ]


def test_the_two_parts_are_the_skewed_divergences():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    for written, name in ((False, "skew_kl"), (True, "skew_reverse_kl")):
        found = functional.distillm2(s, t, torch.full((5,), written), 0.2)
        assert found.item() == pytest.approx(getattr(functional, name)(s, t, 0.2).item())


def test_the_students_text_alone_costs_nothing_where_it_is_the_teachers_too():
    value, slope = value_and_gradient("distillm2", draw(5, 7), draw(5, 7) + 1, written=torch.ones(5, dtype=torch.bool))
    assert abs(value) < 1e-12 and slope.abs().max() < 1e-12


@pytest.mark.parametrize("written", [WRITTEN.long(), WRITTEN[:2]])
def test_writers_that_do_not_fit_the_rows_are_refused(written):
    with pytest.raises(UserError, match=r"written must be bool \(5,\)"):
        functional.distillm2(draw(5, 7), draw(5, 7), written)


@pytest.mark.parametrize("numbers", [{"alpha": 1.0}, {"beta": 2.0}, {"beta": 0.0}])
def test_numbers_beyond_their_ends_are_refused(numbers):
    with pytest.raises(UserError, match=r"must be a number (above 0|below)"):
        DistiLLM2(**numbers)


def test_a_batch_says_which_samples_the_student_wrote():
    module = distillation({"distillm2": strategy("distillm2")["distillm2"]})
    batch = make_batch(make_images(4))
    teachers = module.losses(batch, ("distillm2",))["distillm2"]
    parts = []
    for written in (False, True):
        batch.targets["written"] = torch.full((4,), written)
        parts.append(module.losses(batch, ("distillm2",))["distillm2"])
    batch.targets["written"] = torch.tensor([True, False, False, False])
    mixed = module.losses(batch, ("distillm2",))["distillm2"]
    assert parts[0] == teachers and parts[1] != teachers
    assert mixed not in (*parts, teachers)


@pytest.mark.parametrize("by_position", [False, True])
def test_the_writer_of_a_text_is_that_of_its_positions(by_position, monkeypatch):
    """Positions without a label are left out of logits and writers alike, also in chunks."""
    s, t, labels = draw(2, 3, 7), draw(2, 3, 7, seed=1), torch.tensor([[1, IGNORED, 2], [IGNORED, 3, 4]])
    written = torch.tensor([[False] * 3, [True] * 3])
    seen = SimpleNamespace(labels=labels, batch_rows=None, step_labels=None)
    seen.written = written if by_position else written[:, 0]
    kept = labels != IGNORED
    expected = functional.distillm2(s[kept], t[kept], written[kept]).item()
    for chunk in (1000, 7):
        monkeypatch.setattr("distillab.training.term_inputs.CHUNK", chunk)
        models = ([SimpleNamespace(logits=logits)] for logits in (s, t))
        (loss,) = term_losses({"d": DistiLLM2(weight=1.0)}, *models, seen, task=LanguageModeling()).values()
        assert loss.item() == pytest.approx(expected)
