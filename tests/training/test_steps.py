"""A training whose length is given in steps: where it ends, what its schedules count, how it is stopped, told and refused."""

import math

import lightning as L
import pytest
from helpers import small_run
from helpers.fits import assert_equal, distillation, trainer, weights
from omegaconf import OmegaConf

from distillab.commands import composition
from distillab.commands.invocation import home, parse
from distillab.core.configuration import TrainerConfig
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol, Recipe
from distillab.training.callbacks import Curves, CutEpoch
from distillab.training.fit import fit
from distillab.training.optimizer import lr_factor

HOW = {"protocol": Protocol("standard", 0.1), "trainer": TrainerConfig(accelerator="cpu", channels_last=False)}


class Rates(L.Callback):
    """Notes the learning rate of every batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("accumulate", "more"), [(1, 3), (2, 2)])
def test_the_last_epoch_is_cut_validated_and_the_end_of_every_schedule(digits, accumulate, more):
    recipe = Recipe.of({"steps": 5, "batch_size": 32, "accumulate": accumulate, "schedule": "cosine", "lr": 0.01})
    data = digits.configure(32, 0, accumulate=accumulate)
    batches = len(data.train_dataloader())
    assert data.batches(recipe) == batches
    steps = math.ceil(batches / accumulate) + more
    total = batches + more * accumulate
    module, curves, rates, told = distillation("none", recipe=recipe.lasting(steps)), Curves(), Rates(), []
    module.strategy.terms["ce"].set_step = lambda step, steps: told.append((step, steps))
    callbacks = [curves, rates, CutEpoch()]
    engine = trainer(2, max_steps=steps, accumulate_grad_batches=accumulate, callbacks=callbacks)
    engine.fit(module, datamodule=data)
    assert (engine.global_step, engine.current_epoch) == (steps, 2)
    assert rates.seen == pytest.approx([0.01 * lr_factor(recipe, batch / total) for batch in range(total)])
    assert told == [(batch, total) for batch in range(total)]
    first, last = curves.epochs
    assert first["val/top1"] != last["val/top1"] and last["epoch"] == 2


@pytest.mark.parametrize("after", [2, 3], ids=["cut epoch", "last step"])
def test_a_fit_that_is_stopped_goes_on_to_the_same_weights_also_behind_its_last_step(digits, tmp_path, after, capsys):
    data = digits.configure(32, 0)
    batches = len(data.train_dataloader())
    steps = batches + 3
    recipe = Recipe(epochs=None, steps=steps, batch_size=32)
    whole, resumed = distillation("kd", recipe=recipe), distillation("kd", recipe=recipe)
    found = fit(whole, data, recipe=recipe, **HOW, directory=tmp_path / "whole", title="net")
    assert (found.steps, found.epochs, len(found.curves)) == (steps, 2, 2)
    assert f"net  epoch 2/2, step {steps}/{steps}" in capsys.readouterr().out
    with small_run.stopped_at(batches + after):
        fit(resumed, data, recipe=recipe, **HOW, directory=tmp_path / "broken", title="net")
    resumed = distillation("kd", recipe=recipe)
    again = fit(resumed, data, recipe=recipe, **HOW, directory=tmp_path / "broken", title="net")
    assert again.resumed and [one["val/top1"] for one in again.curves] == [one["val/top1"] for one in found.curves]
    assert (again.steps, again.epochs, again.epoch) == (steps, 2, found.epoch)
    assert_equal(weights(whole), weights(resumed))


def config(*words):
    return OmegaConf.to_container(composition.compose([*small_run.SMALL[:3], *words]), resolve=True)


@pytest.mark.parametrize("path", ["recipe", "teacher.recipe"])
def test_steps_take_the_place_of_a_files_epochs_and_both_are_refused(path):
    found = parse(config(f"{path}.steps=40"))
    recipe = found.recipe if path == "recipe" else found.teacher.recipe
    assert (recipe.epochs, recipe.steps, recipe.epochs_in(16)) == (None, 40, 3)
    for words, said in (
        ((f"{path}.steps=40", f"{path}.epochs=2"), f"{path}.epochs=2 and {path}.steps=40 both .* {path}.epochs=null"),
        ((f"{path}.epochs=null",), f"nothing says how long to train: set {path}.epochs=8, or {path}.steps=1000"),
        ((f"{path}.steps=0",), f"{path}.steps must be a whole number from 1, or null"),
    ):
        with pytest.raises(UserError, match=said):
            parse(config(*words))


def test_a_run_that_counts_epochs_keeps_its_hash():
    assert home(parse(config("recipe.steps=null"))) == home(parse(config()))
    assert home(parse(config("recipe.steps=40"))) == home(parse(config("recipe.epochs=null", "recipe.steps=40")))
    assert home(parse(config("recipe.steps=40"))) != home(parse(config("recipe.steps=41")))


def test_a_run_and_the_student_alone_at_equal_compute_count_steps(tmp_path, unmeasured):
    words = ("student=resnet8", "teacher=resnet8", "logger=none", "data.samples=160", "recipe.batch_size=32")
    found = small_run.run(
        tmp_path, "recipe.steps=7", "teacher.recipe.steps=3", "equal_compute=multiply_adds", base=words
    )
    training = found.student.training
    assert (training.steps, training.epochs, found.teacher.training.steps) == (7, 2, 3)
    # The teacher has the student's size: its passes are a third of the student's steps, 7 / 3 of them.
    assert (found.longer.steps, found.longer.epochs, found.cost.equal_compute.unit) == (10, 2, "steps")
    assert found.baseline.training.steps == 7 and found.cost.equal_compute.training_epochs == 10


def test_phases_that_do_not_fit_the_epochs_of_the_steps_are_refused_before_any_training(tmp_path):
    words = ("strategy=hint_two_phase", "recipe.steps=1")
    with pytest.raises(UserError, match=r"set recipe\.epochs, or what recipe\.steps are of them, to at least 2"):
        small_run.run(tmp_path, *words, base=("student=resnet8", "teacher=resnet14", "logger=none"))
    assert not (tmp_path / "store").exists()


def test_a_plain_trainer_that_counts_steps_alone_is_told_to_name_epochs(digits):
    with pytest.raises(UserError, match=r"Trainer\(max_epochs=…\)"):
        trainer(None, max_steps=5).fit(distillation("none"), datamodule=digits.configure(64, 0))
