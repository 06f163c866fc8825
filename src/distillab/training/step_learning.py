"""Tells terms that learn from optimiser steps what they lost in each."""

from collections.abc import Mapping

from torch import Tensor

from distillab.core.gather import mean_over_devices
from distillab.strategies.base import Term


class StepLearning:
    """Adds up the losses of the batches of one optimiser step for `Term.after_step`."""

    def __init__(self, terms: Mapping[str, Term]) -> None:
        self.terms = {name: term for name, term in terms.items() if term.learns_from_steps}
        self.losses: dict[str, list[Tensor]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Note the weighted losses of a batch; a term without weight does not act, and learns nothing."""
        for name, term in self.terms.items():
            if name in losses and term.weight:
                self.losses.setdefault(name, []).append(losses[name].detach() / term.weight)

    def end(self, progress: float) -> None:
        """Tell the terms, after the share `progress` of all steps; each batch weighs what it weighs in the loss."""
        means = mean_over_devices({name: sum(parts) / len(parts) for name, parts in self.losses.items()})
        self.losses.clear()
        for name, loss in means.items():
            self.terms[name].after_step(loss, progress)
