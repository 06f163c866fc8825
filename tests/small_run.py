"""A whole experiment in seconds: two small networks on digits."""

from pathlib import Path

from omegaconf import OmegaConf

from distillab import config, experiment

SMALL = ["student=resnet8", "teacher=resnet14", "logger=none", "recipe.epochs=2", "teacher.recipe.epochs=3"]


def run(place: Path, *overrides: str) -> dict:
    """The result of the small experiment with its runs and store under ``place``."""
    paths = [f"paths.runs={place}/runs", f"paths.store={place}/store"]
    cfg = OmegaConf.to_container(config.compose([*SMALL, *paths, *overrides]), resolve=True)
    return experiment.run(cfg, config.strategy_label(cfg["strategy"]), "python train.py", list(overrides))
