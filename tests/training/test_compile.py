"""The step compiled or in bfloat16 learns what the plain one does, nothing but the step knows of it, and it is logged."""

import csv

import lightning as L
import pytest
import torch
from helpers.fits import SHAPE, strategy
from helpers.recipe_fits import RECIPE, fitted, settings
from lightning.pytorch.loggers import CSVLogger

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol, Recipe
from distillab.training.fit import fit


@pytest.mark.parametrize("wrong", ["teacher", True, "yes", 0, None])
def test_another_choice_is_refused(wrong, digits, tmp_path):
    with pytest.raises(UserError, match=r"trainer\.compile must be one of false, student, both"):
        fitted(digits, tmp_path, compile=wrong)


def test_the_choice_says_what_runs_compiled(digits, tmp_path, monkeypatch):
    """Without the compiler: what it is handed is counted, and what validates goes past it."""
    calls = []

    def counted(model):
        def run(**inputs):
            calls.append((model, model.training))
            return model(**inputs)

        return run

    monkeypatch.setattr(torch, "compile", counted)
    for choice, roles in ((False, 0), ("student", 1), ("both", 2)):
        calls.clear()
        module, _ = fitted(digits, tmp_path / str(choice), compile=choice)
        assert len(calls) == roles * 4  # two epochs of two batches; not the validation
        assert {model for model, _ in calls} == {module.student, module.teacher.folded} if roles == 2 else True
        assert all(training == (model is module.student) for model, training in calls)


def test_synchronised_batchnorm_reaches_the_engine(digits, tmp_path, monkeypatch):
    """On one device there is nothing to synchronise; what Lightning is told is what a person chose."""
    told = []

    class Told(L.Trainer):
        def __init__(self, **arguments):
            told.append(arguments["sync_batchnorm"])
            super().__init__(**arguments)

    monkeypatch.setattr(L, "Trainer", Told)
    for choice in (False, True):
        fitted(digits, tmp_path / str(choice), sync_batchnorm=choice)
    assert told == [False, True]


def test_a_fit_in_bfloat16_learns_what_one_in_float32_does(digits, tmp_path):
    """The weights stay in float32; only the passes through the networks round."""
    half = Recipe(**(vars(RECIPE) | {"precision": "bf16-mixed"}))
    module, found = fitted(digits, tmp_path / "half", recipe=half)
    _, expected = fitted(digits, tmp_path / "whole")
    losses = [[epoch["train/loss"] for epoch in record.curves] for record in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    assert {value.dtype for value in module.student.parameters()} == {torch.float32}


def test_losses_are_logged_every_so_many_steps(network, digits, tmp_path):
    """Those of the step itself, beside the means of the epochs: two epochs of four steps, one in three."""
    seen = []

    class Seen(Distillation):
        def losses(self, batch, names):
            losses = super().losses(batch, names)
            if self.training:
                seen.append({name: float(value) for name, value in losses.items()})
            return losses

    module = Seen(network(), network(seed=1), strategy("kd"), input_shape=SHAPE, recipe=RECIPE)
    logger = CSVLogger(tmp_path)
    trainer = settings(log_every_n_steps=3, limit_train_batches=4)
    how = {"recipe": RECIPE, "protocol": Protocol("standard", 0.1), "trainer": trainer, "logger": logger}
    fit(module, digits.configure(64, 0), **how, directory=tmp_path, title="student")
    logger.save()
    rows = list(csv.DictReader(open(f"{logger.log_dir}/metrics.csv")))  # noqa: SIM115
    steps = {int(row["step"]): row for row in rows if row["step/loss"]}
    assert list(steps) == [2, 5]  # counted from 0
    for number, row in steps.items():
        for name, value in seen[number].items():
            assert float(row[f"step/{name}"]) == pytest.approx(value, rel=1e-5)
        assert float(row["step/loss"]) == pytest.approx(sum(seen[number].values()), rel=1e-5)
