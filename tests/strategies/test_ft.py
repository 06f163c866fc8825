"""Factor transfer, with a paraphraser that learns first (ft)."""

from itertools import pairwise

import lightning as L
import numpy as np
import pytest
import torch
from helpers.fits import SHAPE, assert_learns, distillation, make_batch, strategy, trainer
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.ft import FactorTransfer
from distillab.strategies.strategy import Strategy


def reference_factor(x):
    """Sample by sample."""
    rows = np.array([(one**2).mean(0).ravel() for one in x])
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


def reference_factor_transfer(F_s, F_t):
    side = min(F_s.shape[-1], F_t.shape[-1])
    pooled = [
        x.reshape(*x.shape[:2], side, x.shape[-1] // side, side, x.shape[-1] // side).mean((3, 5)) for x in (F_s, F_t)
    ]
    return float(np.abs(reference_factor(pooled[0]) - reference_factor(pooled[1])).mean())


class TestFT(MethodTester):
    configs = ("ft",)
    cases = {
        "ft_factor": [
            Case(lambda F: float((reference_factor(F) ** 3).sum()), student={"F": draw(3, 4, 2, 2)}, teacher={})
        ],
        "factor_transfer": [
            Case(
                reference_factor_transfer, student={"F_s": draw(2, 3, s, s)}, teacher={"F_t": draw(2, 5, t, t, seed=1)}
            )
            for s, t in ((4, 4), (4, 2), (2, 4))
        ],
    }
    composed = {"ft_factor": lambda F: functional.ft_factor(F).pow(3).sum()}
    mutations = [
        ("ft_factor", "F.square().mean(1)", "F.mean(1).square()", "the square after the mean"),
        ("ft_factor", "squares.square().sum(1", "squares.sum(1", "the L1 norm's root"),
        ("factor_transfer", ".abs().mean()", ".abs().sum()", "a sum"),
        ("factor_transfer", ".abs().mean()", ".square().mean()", "squared differences"),
        ("factor_transfer", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="F_s and F_t must be"):
        functional.factor_transfer(draw(2, 3, 4, 4), draw(3, 3, 4, 4))
    with pytest.raises(UserError, match="F must be"):
        functional.ft_factor(draw(2, 3))


def test_hand_made_factors():
    torch.testing.assert_close(
        functional.ft_factor(torch.tensor([[[[3.0, 0.0]], [[-3.0, 0.0]]]])), torch.tensor([[1.0, 0.0]])
    )
    zeros = torch.zeros(2, 3, 4, 4, requires_grad=True)
    functional.factor_transfer(zeros, torch.ones(2, 3, 4, 4)).backward()
    assert torch.isfinite(zeros.grad).all()


def test_student_and_connectors_learn():
    assert_learns("ft", lambda module: module.strategy.terms["ft"].translator.parameters())


def test_the_paraphraser_learns_first_without_the_student_and_is_saved_once():
    module = distillation("ft")
    batch = make_batch(torch.rand(8, *SHAPE))
    losses, terms = module.losses(batch, ("paraphraser", "ft")), module.strategy.terms
    inside, student = list(terms["paraphraser"].parameters()), list(module.student.parameters())
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["paraphraser"], inside, retain_graph=True))
    assert not any(g is not None for g in torch.autograd.grad(losses["paraphraser"], student, allow_unused=True))
    assert not any(g is not None for g in torch.autograd.grad(losses["ft"], inside, allow_unused=True))
    assert not [key for key in terms["ft"].state_dict() if not key.startswith("translator")]
    kinds = {role: {type(m).__name__ for m in terms[role].modules()} for role in ("paraphraser", "ft")}
    assert "BatchNorm2d" in kinds["ft"] and "BatchNorm2d" not in kinds["paraphraser"]
    assert terms["paraphraser"].encoder[-2].out_channels == 32  # half of 64


def test_a_fit_moves_the_paraphraser_alone_and_then_all_but_it(digits):
    module = distillation("ft")
    states = [{key: value.clone() for key, value in module.state_dict().items()}]

    class Keep(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            states.append({key: value.clone() for key, value in module.state_dict().items()})

    trainer(2, callbacks=[Keep()]).fit(module, datamodule=digits.configure(64, 0))
    first, second = ({key for key in a if not torch.equal(a[key], b[key])} for a, b in pairwise(states))
    paraphraser = {key for key in states[0] if key.startswith("strategy.terms.paraphraser.")}
    assert first == paraphraser  # not even the student's BatchNorm statistics
    assert {"student.net.conv1.weight", "strategy.terms.ft.translator.0.weight"} <= second
    assert not second & paraphraser


def test_refusals_speak():
    student, point = info((8, 4, 4), name="small"), info((8, 1, 1), name="point")
    with pytest.raises(UserError, match=r"strategy\.ft: .*needs a paraphraser.*strategy=ft"):
        Strategy.of({"ft": FactorTransfer()}).connect(student, student, 0)
    for pair in ((student, point), (point, student)):
        with pytest.raises(UserError, match=r"strategy\.ft: a factor of one pixel.*point ends in layer0 \(8×1×1\)"):
            Strategy.of(strategy("ft")).connect(*pair, 0)
    parts = strategy("ft")
    with pytest.raises(UserError, match="rate must leave a channel"):
        Strategy.of(parts | {"paraphraser": parts["paraphraser"] | {"rate": 0.1}}).connect(student, student, 0)
