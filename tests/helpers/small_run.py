"""A whole experiment in seconds: two small networks on digits."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from distillab.commands import composition as config
from distillab.commands import experiment
from distillab.commands.invocation import Invocation, parse

SMALL = ("student=resnet8", "teacher=resnet14", "logger=none", "recipe.epochs=2", "teacher.recipe.epochs=3")


def composed(place: Path, *overrides: str, base: Sequence[str] = SMALL) -> dict:
    """The config of the small experiment with its runs and store under ``place``."""
    paths = (f"paths.runs={place}/runs", f"paths.store={place}/store")
    return OmegaConf.to_container(config.compose([*base, *paths, *overrides]), resolve=True)


def run(place: Path, *overrides: str, base: Sequence[str] = SMALL) -> dict:
    """Its result."""
    cfg = composed(place, *overrides, base=base)
    label = config.strategy_label(cfg["strategy"])
    return experiment.run(Invocation(parse(cfg), label, "python train.py", overrides))
