"""Short fits through `distillab.training.fit.fit`, with the trainer's settings of a command."""

from distillab.commands.composition import compose
from distillab.core.configuration import TrainerConfig
from distillab.core.recipe import Protocol, Recipe
from distillab.training.fit import fit
from helpers.fits import distillation, small

RECIPE = Recipe(epochs=2, optimizer="sgd", lr=0.05, schedule="constant")


def settings(**changes):
    """Two steps to an epoch, quiet."""
    quiet = {"progress_bar": False, "limit_train_batches": 2, "accelerator": "cpu"}
    return TrainerConfig.of({**compose([]).trainer, **quiet, **changes})


def fitted(digits, folder, name="kd", recipe=RECIPE, **changes):
    """A module and the record of its fit."""
    module = distillation(name, teacher=small(1), recipe=recipe)
    how = {"recipe": recipe, "protocol": Protocol("standard", 0.1), "trainer": settings(**changes)}
    return module, fit(module, digits.configure(64, 0), **how, directory=folder, title="student")
