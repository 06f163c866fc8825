"""Short fits through `distillab.training.fit.fit`, with the trainer's settings of a command."""

from distillab.commands.composition import compose
from distillab.training.fit import fit
from distillab.training.protocol import Protocol
from distillab.training.recipe import Recipe
from helpers.fits import distillation, small

RECIPE = Recipe(epochs=2, optimizer="sgd", lr=0.05, schedule="constant")


def settings(**changes):
    """Two steps to an epoch, quiet."""
    return {**compose([]).trainer, "progress_bar": False, "limit_train_batches": 2, "accelerator": "cpu"} | changes


def fitted(digits, folder, name="kd", recipe=RECIPE, **changes):
    """A module and the record of its fit."""
    module = distillation(name, teacher=small(1), recipe=recipe)
    data, trainer = digits.configure(64, 0), settings(**changes)
    return module, fit(module, data, recipe, Protocol("standard", 0.1), trainer, folder, "student")
