"""The config of a teacher cache that several tests attach."""

from types import SimpleNamespace

from distillab.core.configuration import CacheConfig, Paths, TrainerConfig
from distillab.core.recipe import Recipe

SETTINGS = {
    "cache": {"mode": "auto", "dtype": "float16", "top_k": None, "limit_gb": 1},
    "recipe": {"precision": "32-true", "epochs": 2},
    "trainer": {"channels_last": False, "accelerator": "cpu"},
}


def settings(**cache):
    """The same with other numbers of the cache."""
    return SETTINGS | {"cache": SETTINGS["cache"] | cache}


def typed(config, root):
    """The parts of a run's config that the cache reads."""
    return SimpleNamespace(
        cache=CacheConfig.of(config["cache"]),
        paths=Paths(store=str(root)),
        recipe=Recipe.of(config["recipe"]),
        trainer=TrainerConfig.of(config["trainer"]),
    )
