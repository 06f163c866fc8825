"""A signal stops the command wherever it is: outside a fit, after one, and with the exit code that shells give."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import lightning
import pytest
from helpers.fits import distillation

from distillab.core import stopping
from distillab.core.stopping import SIGNALS, Stopped, listen, stop
from distillab.training.callbacks import StopCleanly


@pytest.fixture
def listening():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves run under nohup
    listen(stop)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_at_once_with_the_code_of_shells(number, code, listening):
    with pytest.raises(Stopped, match=f"^stopped by {number.name}$") as stopped:
        os.kill(os.getpid(), number)
        signal.pause()
    assert stopped.value.code == code


def test_under_nohup_a_closed_terminal_stops_nothing(listening):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listen(stop)
    os.kill(os.getpid(), signal.SIGHUP)


def a_fit(tmp_path, data, *callbacks):
    module = distillation({"ce": {"_target_": "distillab.strategies.ce.CrossEntropy", "weight": 1.0}})
    about = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    about |= {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "enable_checkpointing": False}
    engine = lightning.Trainer(max_epochs=1, callbacks=[*callbacks, StopCleanly(tmp_path / "last.ckpt")], **about)
    engine.fit(module, datamodule=data.configure(64, 0))


class Kill(lightning.Callback):
    def on_train_epoch_end(self, trainer, module):
        os.kill(os.getpid(), signal.SIGTERM)


def test_after_a_fit_signals_act_as_before_it(listening, tmp_path, few_digits):
    """A dead trainer's handler was put back after each fit, and swallowed SIGTERM from then on."""
    a_fit(tmp_path, few_digits)
    assert all(signal.getsignal(number) is stop for number in SIGNALS)


def test_a_signal_in_the_last_epoch_is_not_forgotten(listening, tmp_path, few_digits):
    with pytest.raises(Stopped, match="after the last epoch") as stopped:
        a_fit(tmp_path, few_digits, Kill())
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) is stop


@pytest.fixture
def asked(monkeypatch, listening):
    monkeypatch.setattr(stopping, "asked", found := [])
    return found


def test_a_signal_is_passed_on_to_workers_that_run_cells_and_a_second_one_stops_at_once(asked, monkeypatch, capsys):
    """Twice at once is one: a terminal's signal reaches the workers by itself too."""
    with pytest.raises(Stopped, match="by SIGINT"):
        stopping.pass_on(signal.SIGINT)  # no worker yet
    assert asked == []
    worker = subprocess.Popen(["sleep", "60"])
    loky = SimpleNamespace(_executor=SimpleNamespace(_processes={worker.pid: worker}))
    monkeypatch.setitem(sys.modules, "joblib.externals.loky.reusable_executor", loky)
    stopping.pass_on(signal.SIGTERM)
    stopping.pass_on(signal.SIGTERM)
    assert worker.wait() == -signal.SIGTERM and capsys.readouterr().out.count("stopping all cells") == 1
    with pytest.raises(Stopped, match="by SIGTERM") as stopped:
        stopping.check()
    assert stopped.value.code == 143
    monkeypatch.setattr(stopping, "SAME", -1)
    with pytest.raises(Stopped):
        stopping.pass_on(signal.SIGTERM)


def test_a_worker_that_was_stopped_begins_no_other_cell(asked, monkeypatch):
    with stopping.stoppable():
        assert signal.getsignal(signal.SIGTERM) is stop, "in the command's own process all stays as it is"
    monkeypatch.setattr(stopping, "in_worker", lambda: True)
    with stopping.stoppable():
        pass
    with pytest.raises(Stopped, match="by SIGTERM"), stopping.stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    os.kill(os.getpid(), signal.SIGTERM)  # between two cells
    with pytest.raises(Stopped), stopping.stoppable():
        pytest.fail("another cell began")
    assert asked == [signal.SIGTERM] * 2


def test_two_signals_at_once_are_one(tmp_path, monkeypatch):
    """A terminal's Ctrl-C reaches a worker by itself, and is passed on: the step must still be saved."""
    callback = StopCleanly(tmp_path / "last.ckpt")
    callback._ask(signal.SIGINT, None)
    callback._ask(signal.SIGINT, None)
    monkeypatch.setattr(callback, "since", callback.since - 2 * stopping.SAME)
    with pytest.raises(Stopped, match="at once"):
        callback._ask(signal.SIGINT, None)
