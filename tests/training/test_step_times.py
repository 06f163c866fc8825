"""Where a fit's seconds go, and its curves, over a stop and a resume too."""

from time import sleep
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from distillab import Distillation
from distillab.core.stopping import Stopped
from distillab.training import step_timer as step_times
from distillab.training.callbacks import Curves, StopCleanly
from distillab.training.step_timer import StepTimer

SHAPE = (1, 8, 8)
KD = {
    "ce": {"_target_": "distillab.strategies.ce.CrossEntropy"},
    "kd": {"_target_": "distillab.strategies.kd.KD", "temperature": 4.0},
}


class Timer:
    """A clock that a test moves on."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer(monkeypatch):
    timer = Timer()
    monkeypatch.setattr(step_times, "perf_counter", timer)
    return timer


def spend(timer, times, module, source=None, teacher=1.0, device="cpu", steps=2):
    """An epoch: 3 s before it, per step .25 s of data, the teacher, 2 s of student; 5 s validation, 7 s at the end."""
    module.device, module.teacher = torch.device(device), source or SimpleNamespace(replayed=0)
    times.setup(None, module, "fit")
    timer.now += 3
    times.on_train_start(None, module)
    times.on_train_epoch_start(None, module)
    for step in range(steps):
        timer.now += 0.25
        times.on_train_batch_start(None, module, None, step)
        with module.teacher_timer(8):
            timer.now += teacher
            if source is not None:
                source.answer()
        timer.now += 2
        times.on_train_batch_end(None, module, None, None, step)
    times.on_validation_start(None, module)
    timer.now += 5
    times.on_validation_end(None, module)
    timer.now += 7
    times.on_train_epoch_end(None, module)


def test_every_second_is_counted_once(timer):
    times = StepTimer()
    spend(timer, times, SimpleNamespace())
    assert times.figures["time"] == {"teacher": 2, "data": 0.5, "student": 4, "validation": 5, "other": 10}
    assert sum(times.figures["time"].values()) == timer.now
    assert times.figures["teacher_samples_computed"] == 16 and times.figures["teacher_seconds_computed"] == 2


def test_a_resume_goes_on_from_the_saved_sums(timer):
    first, again = StepTimer(), StepTimer()
    spend(timer, first, SimpleNamespace())
    timer.now += 1000  # between the two calls
    again.setup(None, None, "fit")
    again.load_state_dict(first.state_dict())
    spend(timer, again, SimpleNamespace())
    assert again.figures["time"] == {name: 2 * value for name, value in first.figures["time"].items()}
    assert again.figures["teacher_samples_computed"] == 32


def test_what_the_cache_replays_is_no_forward_pass(timer):
    class Cached(SimpleNamespace):
        def answer(self):
            self.replayed += self.left.pop(0)

    times = StepTimer()
    spend(timer, times, SimpleNamespace(), Cached(replayed=100, left=[0, 8]), teacher=1.5)
    assert times.figures["time"]["teacher"] == 3
    figures = [
        times.figures[f"teacher_{name}"] for name in ("seconds_computed", "samples_computed", "samples_replayed")
    ]
    assert figures == [1.5, 8, 8]


def test_on_a_gpu_one_step_of_fifty_stands_for_the_others(timer, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    times = StepTimer()
    spend(timer, times, SimpleNamespace(), device="cuda", steps=100)
    # Every step is alike, so two of a hundred tell what all of them say on the CPU.
    assert times.figures["time"] == {"teacher": 100, "data": 25, "student": 200, "validation": 5, "other": 10}
    assert times.totals["measured_steps"] == 2 and len(waits) == 2 * 4 + 2
    assert times.figures["teacher_samples_computed"] == 800 and times.figures["teacher_seconds_computed"] == 100


def test_measured_steps_stand_for_no_more_than_the_loop_took():
    times = StepTimer()
    times.totals |= {"loop": 50.0, "steps": 100, "measured_steps": 2, "step_seconds": 4.0, "teacher_seconds": 1.0}
    assert times.figures["time"] == {"teacher": 12.5, "data": 0, "student": 37.5, "validation": 0, "other": 0}


def engine(callbacks, epochs=3, **changes):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    return L.Trainer(max_epochs=epochs, use_distributed_sampler=False, callbacks=callbacks, **quiet | changes)


@pytest.fixture
def module(network):
    return lambda: Distillation(network(), network(seed=1), KD, input_shape=SHAPE, recipe={"lr": 1e-3})


def test_a_slow_teacher_shows_in_a_real_fit(digits, module):
    slow, times = module(), StepTimer()
    forward = slow.teacher.forward
    slow.teacher.forward = lambda batch: (sleep(0.05), forward(batch))[1]
    ready = digits.configure(64, 0)
    engine([times], 1).fit(slow, datamodule=ready)
    figures = times.figures
    samples = figures["teacher_samples_computed"]
    assert samples == digits.sizes["train"] and figures["teacher_samples_replayed"] == 0
    steps = len(ready.train_dataloader())
    assert figures["time"]["teacher"] >= 0.05 * steps > 0
    assert figures["time"]["teacher"] == pytest.approx(figures["teacher_seconds_computed"])
    assert all(value > 0 for value in figures["time"].values())


def without_seconds(epochs):
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in epochs]


@pytest.mark.parametrize("stop_at", [4, 6])  # steps; an epoch has 4
def test_a_stopped_and_resumed_run_has_the_unbroken_curves(stop_at, tmp_path, digits, module):
    whole, times = Curves(), StepTimer()
    engine([times, whole]).fit(module(), datamodule=digits.configure(64, 0))

    class Ask(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            stop.asked = trainer.global_step + 1 >= stop_at

    stop = StopCleanly(tmp_path / "last.ckpt")
    with pytest.raises(Stopped):
        saved = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        engine([StepTimer(), Curves(), Ask(), stop, saved], enable_checkpointing=True).fit(
            module(), datamodule=digits.configure(64, 0)
        )
    resumed, again = Curves(), StepTimer()
    end = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    engine([again, resumed]).fit(module(), datamodule=digits.configure(64, 0), **end)

    assert [epoch["epoch"] for epoch in whole.epochs] == [1, 2, 3]
    assert set(whole.epochs[0]) >= {"epoch", "train/loss", "train/ce", "train/kd", "val/top1", "seconds"}
    assert without_seconds(resumed.epochs) == without_seconds(whole.epochs)
    assert all(type(value) in (int, float) for epoch in whole.epochs for value in epoch.values())
    assert all(epoch["seconds"] > 0 for epoch in resumed.epochs)
    assert again.figures["teacher_samples_computed"] == times.figures["teacher_samples_computed"]


def test_the_loss_of_a_curve_is_the_sum_of_its_terms_and_the_mean_of_its_steps(digits, module):
    seen, curves = [], Curves()

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append(float(outputs["loss"]))

    engine([curves, Look()], 1).fit(module(), datamodule=digits.configure(64, 0))
    (epoch,) = curves.epochs
    assert epoch["train/loss"] == pytest.approx(sum(seen) / len(seen), rel=1e-5)
    assert epoch["train/loss"] == pytest.approx(epoch["train/ce"] + epoch["train/kd"], rel=1e-5)
