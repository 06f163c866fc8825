"""A phase of a strategy: a stretch of epochs, and at which learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillab.core.allowed import Allowed, Range
from distillab.core.recipe import OPTIMIZERS, Recipe
from distillab.strategies.base import whole_epochs

AMOUNT = Range(0)


class Rate(Allowed):
    """A learning rate, or one for each of several optimisers: it means something for the one alone that it was tuned for."""

    expected = f"a number from 0, a mapping of {', '.join(OPTIMIZERS)} to such, or null"

    def allows(self, value: Any) -> bool:
        """Whether the value is one of these."""
        if isinstance(value, Mapping):
            return bool(value) and set(value) <= set(OPTIMIZERS) and all(AMOUNT.allows(one) for one in value.values())
        return value is None or AMOUNT.allows(value)


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs: which terms act, what they train, whether the optimiser starts afresh, and its rate."""

    start: int
    epochs: int
    terms: tuple[str, ...]
    train: str = "both"
    fresh: bool = True
    # None is the recipe's, which counts where its optimiser is not listed, too.
    lr: float | tuple[tuple[str, float], ...] | None = None
    schedule: str | None = None  # None is the recipe's
    extra: bool = False  # before the epochs of the recipe

    def recipe(self, recipe: Recipe) -> Recipe:
        """A recipe with the rate of this phase; one of rate 0 moves nothing, whatever the phase says."""
        lr, schedule = self.lr, self.schedule or recipe.schedule
        if isinstance(lr, tuple):
            listed = dict(lr)
            lr = listed.get(recipe.optimizer, listed.get("sgd") if recipe.optimizer == "dot" else None)
        return replace(recipe, lr=recipe.lr if lr is None or not recipe.lr else lr, schedule=schedule)


def length(epochs: float | None, of: int) -> int | None:
    """The epochs of a phase, below 1 a share of those of the recipe, one at least; None is what is left."""
    return epochs if epochs is None else int(epochs) if epochs >= 1 else max(1, whole_epochs(epochs, of))
