"""A signal stops the command wherever it is: outside a fit, after one, and with the exit code that shells give."""

import os
import signal

import lightning
import pytest
from helpers.fits import distillation

from distillab.core.stopping import SIGNALS, Stopped, listen, stop
from distillab.training.callbacks import StopCleanly


@pytest.fixture
def listening():
    before = {number: signal.getsignal(number) for number in SIGNALS}
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
