"""Slow: every strategy is charged what its training steps really take, on images and on text.

`pytest -m slow -n 0 -s tests/slow/test_step_charge.py` prints the table of docs/performance.md; one thread is timed best.
"""

import shutil
import time
from statistics import fmean, median

import lightning as L
import pytest
from helpers import small_run
from helpers.fits import CONFIGS, trainer
from helpers.texts import write

from distillab.commands import steps
from distillab.commands.invocation import parse
from distillab.core.errors import UserError
from distillab.core.timer import Timer
from distillab.schemes.pretrain import alone
from distillab.training import stepwise
from distillab.training.module import Distillation

EPOCHS = 4  # enough for every method's phases
IMAGES = ("student=resnet8", "teacher=resnet14", "data.samples=640", "data.labelled=1.0")
TEXT = ("data=text", "data.vocabulary=1024", "data.length=64", "data.samples=80", "recipe.batch_size=8")
TEXT += ("student.width=64", "student.hidden=128", "teacher.width=128", "teacher.layers=4", "teacher.hidden=256")
COMMON = (
    f"recipe.epochs={EPOCHS}",
    "teacher.recipe.epochs=1",
    "logger=none",
    "cache.mode=never",
    "trainer.accelerator=cpu",
)
FITS = 4  # of each
TRIES = 3  # measurements of both sides, whose median counts where the first differ


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charged")
    write(folder, 60)
    return folder


class Steps(L.Callback):
    """CPU seconds from the end of one step to the end of the next, by epoch."""

    def __init__(self):
        self.seconds, self.before = {}, None

    def on_train_epoch_start(self, *_):
        self.before = None

    def on_train_batch_end(self, trainer, *_):
        now = time.process_time()
        if self.before is not None:
            self.seconds.setdefault(trainer.current_epoch, []).append(now - self.before)
        self.before = now


def prepared(place, task, name):
    """The run's parts, its step charged and its fit put together; UserError where the method does not serve the task."""
    own = (*IMAGES, f"data.cache_dir={place}/store") if task == "images" else (*TEXT, f"data.path={place}/topics.jsonl")
    config = parse(small_run.composed(place, f"strategy={name}", base=(*own, *COMMON)))
    made = steps.prepare(config, steps.check(config), Timer())
    steps.ready(made, charged=True)
    return made


def true_ratio(made):
    """Seconds of the steps of the run's own fit over those of the student alone, by epoch, in fits that take turns."""
    run = made.run
    parts = alone(run.config.strategy), run.setting.task
    own = Distillation(run.student(), None, *parts, recipe=run.config.recipe.alone)
    found = {"alone": Steps(), "fit": Steps()}
    for _ in range(FITS):
        fitted(own, run.setting.configured(run.data, run.config.recipe.alone, 0), found["alone"])
        fitted(made.module, made.data, found["fit"])
    alone_seconds, fit_seconds = (fmean(map(median, timer.seconds.values())) for timer in found.values())
    return fit_seconds / alone_seconds


def fitted(module, data, timer):
    """A fit whose steps are timed."""
    trainer(module.strategy.whole(EPOCHS), callbacks=[timer], limit_val_batches=0).fit(module, datamodule=data)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "none"])
@pytest.mark.parametrize("task", ["images", "text"])
def test_the_charge_is_what_the_steps_take(task, name, place, monkeypatch):
    monkeypatch.setattr(stepwise, "SECONDS", 60.0)  # until the rounds agree, also on a busy machine
    shares = []
    while len(shares) < TRIES and not (shares and 0.95 <= shares[0] <= 1.05):
        shutil.rmtree(place / "store" / "steps", ignore_errors=True)
        try:
            made = prepared(place, task, name)
        except UserError as error:
            pytest.skip(str(error))
        true, step = true_ratio(made), made.step
        shares.append(step.live / true)
        cached = "–" if step.cached is None else f"{step.cached:.2f}"
        print(
            f"| {name} | {task} | {step.live:.2f} | {true:.2f} | {shares[-1]:.3f} | {cached} | {step.multiply_adds:.2f} |"
        )
    assert 0.95 <= median(shares) <= 1.05
