"""A teacher on the way from the student to the teacher (taid)."""

import math

import pytest
import torch
from helpers.divergences import DivergenceTester, value_and_gradient
from helpers.fits import distillation, models, strategy, trainer
from helpers.method_checks import Case
from helpers.method_tester import LOGITS
from helpers.numbers import draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.schemes.mutual import MutualDistillation
from distillab.strategies.taid import TAID
from distillab.training.step_learning import StepLearning


def reference(s, t, share=0.4, temperature=1.0):
    between = softmax(((1 - share) * s + share * t) / temperature)
    rows = [kl(m, q) for m, q in zip(between, softmax(s / temperature), strict=True)]
    return temperature**2 * sum(rows) / len(rows)


def gradient(s, t, share=0.4, temperature=1.0):
    """q − m: with the mixture constant."""
    between = softmax(((1 - share) * s + share * t) / temperature)
    return temperature * (softmax(s / temperature) - between) / len(s)


class TestTAID(DivergenceTester):
    configs = ("taid",)
    cases = {
        "taid": [
            Case(reference, **LOGITS, rest=rest, extreme=True, gradient=gradient)
            for rest in ({"temperature": 2.0, "share": 0.7}, {}, {"share": 1.0})
        ],
    }
    mutations = [
        ("taid", "(1 - share) * s.detach()", "share * s.detach()", "the student's share that of the teacher"),
        ("taid", "kl(log_p, log_q)", "kl(log_q, log_p)", "KL turned round"),
        ("taid", "temperature**2 * kl", "kl", "T² dropped"),
    ]


def test_its_ends_are_nothing_and_kd():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.taid(s, t, 1.0, 2.0).item() == pytest.approx(functional.kd(s, t, 2.0).item())
    value, slope = value_and_gradient("taid", s, t, share=1e-9)
    assert value < 1e-12 and slope.abs().max() < 1e-9


def test_the_share_follows_the_losses_and_is_never_behind_the_line():
    """Against the same sums in plain numbers: it rises with a falling loss, and by the line where that is more."""
    term = TAID(alpha=0.3, momentum=0.5).double()
    share, velocity, last = 0.4, 0.0, None
    for step, loss in enumerate([2.0, 1.0, 1.5, 0.0, 0.3, 0.1]):
        term.after_step(torch.tensor(loss).double(), (step + 1) / 100)
        if last is not None:
            fell = (last - loss) / max(last, torch.finfo(torch.float64).tiny)
            velocity = 0.5 * velocity + 0.5 * fell
            rise = 0.3 / (1 + math.exp(-velocity)) if velocity > -700 else 0.0
            share = min(1.0, max(0.4 + 0.6 * (step + 1) / 100, share + rise * (1 - share)))
        last = loss
        assert term.share.item() == pytest.approx(share)
    assert 0.4 < share < 1
    term.after_step(torch.tensor(1.0).double(), 1.0)
    assert term.share == 1


def test_the_first_step_only_shows_the_loss():
    term = TAID()
    term.after_step(torch.tensor(3.0), 0.5)
    assert (term.share, term.velocity, term.last_loss) == (torch.tensor(0.4), 0, 3)


def test_it_moves_once_in_every_optimiser_step_and_at_no_other_time(few_digits):
    """Two batches to a step, whose mean is the step's loss; no move in the validation of each epoch."""
    module = distillation({"taid": strategy("taid")["taid"] | {"weight": 0.25}})
    data, term, told, seen = few_digits.configure(32, 0), module.strategy.terms["taid"], [], []
    after_step, losses = term.after_step, module.losses

    def note(loss, progress):
        told.append((loss.item(), progress))
        after_step(loss, progress)

    def listen(batch, names):
        found = losses(batch, names)
        seen.extend([found["taid"].item()] if module.training else [])
        return found

    term.after_step, module.losses = note, listen
    engine = trainer(2, accumulate_grad_batches=2)
    engine.fit(module, datamodule=data)
    pairs = [(a + b) / 2 / 0.25 for a, b in zip(seen[::2], seen[1::2], strict=True)]
    assert len(told) == engine.global_step == 4
    assert [loss for loss, _ in told] == pytest.approx(pairs)
    assert [progress for _, progress in told] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert term.share == 1


def test_it_waits_where_it_has_no_weight():
    learning = StepLearning({"taid": TAID(weight=0.0)})
    learning.add({"taid": torch.tensor(0.0)})
    learning.end(0.5)
    assert learning.terms["taid"].last_loss == torch.inf


def test_peers_that_learn_from_each_other_are_refused(network):
    with pytest.raises(UserError, match=r"scheme=mutual: strategy\.taid learns from the steps of one student"):
        MutualDistillation(models(network, 8, 8), strategy("taid"))


@pytest.mark.parametrize("numbers", [{"start": 0.0}, {"start": 1.0}, {"momentum": 1.0}, {"alpha": 0.0}])
def test_numbers_beyond_their_ends_are_refused(numbers):
    with pytest.raises(UserError, match=r"must be a number (above 0|below 1), got"):
        TAID(**numbers)
