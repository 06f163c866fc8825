"""What terms that learn from steps are told."""

import pytest
import torch

from distillab.strategies.base import Term
from distillab.strategies.kd import KD
from distillab.training.step_learning import StepLearning


class Told(Term):
    def __init__(self, weight):
        super().__init__(weight)
        self.told = []

    def after_step(self, loss, progress):
        self.told.append((loss.item(), progress))


def test_a_term_is_told_its_unweighted_mean_once_in_a_step():
    terms = {"a": Told(0.5), "idle": Told(0.0), "kd": KD()}
    learning = StepLearning(terms)
    for value in (1.0, 3.0):
        learning.add({"a": torch.tensor(value, requires_grad=True), "idle": torch.tensor(0.0), "kd": torch.tensor(1.0)})
    learning.end(0.25)
    learning.add({"kd": torch.tensor(1.0)})  # a phase in which it does not act
    learning.end(0.5)
    assert terms["a"].told == [(pytest.approx(4.0), 0.25)] and terms["idle"].told == []
