"""A whole experiment in seconds: two small networks on digits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightning import Trainer
from omegaconf import OmegaConf

from distillab import Distillation
from distillab.commands import composition as config
from distillab.commands import experiment
from distillab.commands.invocation import Invocation, parse
from distillab.core.stopping import Stopped
from distillab.evaluation import efficiency
from distillab.training import stepwise
from distillab.training.callbacks import StopCleanly

SMALL = (
    "student=resnet8",
    "teacher=resnet14",
    "logger=none",
    "recipe.epochs=2",
    "teacher.recipe.epochs=3",
    "data.labelled=1.0",
    "equal_compute=false",  # the student alone is not trained a second time, for longer
)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Without timings, tables and plots, which take a second each and are tested elsewhere."""
    figures = dict.fromkeys(("latency_ms", "latency_p95_ms", "latency_batch_ms"), 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficiency, "latency", lambda *_, **__: figures)
        for name in ("show", "refresh"):
            patch.setattr(experiment, name, lambda *_: None)
        yield


@contextmanager
def stopped_at(step: int, term: str = "kd") -> Iterator[None]:
    """Stop the fit with such a term behind this optimiser step, and expect that."""
    ask = StopCleanly.on_train_batch_end

    def stop(self: StopCleanly, trainer: Trainer, module: Distillation, *arguments: object) -> None:
        self.asked = trainer.global_step == step and term in module.strategy.terms
        ask(self, trainer, module, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(StopCleanly, "on_train_batch_end", stop)
        yield


def composed(place: Path, *overrides: str, base: Sequence[str] = SMALL) -> dict:
    """The config of the small experiment with its runs and store under ``place``."""
    paths = (f"paths.runs={place}/runs", f"paths.store={place}/store")
    return OmegaConf.to_container(config.compose([*base, *paths, *overrides]), resolve=True)


def run(place: Path, *overrides: str, base: Sequence[str] = SMALL) -> dict:
    """Its result."""
    cfg = composed(place, *overrides, base=base)
    label = config.strategy_label(cfg["strategy"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepwise, "SECONDS", 0.0)  # one round tells a charge well enough here
        return experiment.run(Invocation(parse(cfg, [*base, *overrides]), label, "python train.py", overrides))
