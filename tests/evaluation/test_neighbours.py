"""Nearest neighbours, against a loop and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from distillab.evaluation import neighbours
from distillab.evaluation.neighbours import TEMPERATURE, by_neighbours


def test_votes_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    features, known = (torch.randn(rows, 5, generator=generator) for rows in (7, 40))
    labels = torch.randint(3, (40,), generator=generator)
    votes = by_neighbours(features, known, labels, 4)
    for row, feature in enumerate(features):
        cosines = [float(feature @ one / feature.norm() / one.norm()) for one in known]
        expected = [0.0] * 4
        for place in sorted(range(40), key=lambda place: -cosines[place])[:20]:
            expected[labels[place]] += math.exp(cosines[place] / TEMPERATURE)
        assert votes[row].tolist() == pytest.approx(expected, rel=1e-4)


def test_answers_are_scikit_learns_also_of_few_and_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(15) % 3
    centres = torch.randn(3, 6, generator=generator)
    known = centres[labels] + 0.3 * torch.randn(15, 6, generator=generator)
    features = torch.randn(50, 6, generator=generator)

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / TEMPERATURE)

    other = KNeighborsClassifier(15, weights=weights, metric="cosine").fit(known.numpy(), labels.numpy())
    monkeypatch.setattr(neighbours, "CHUNK", 60)  # four rows at once
    ours = by_neighbours(features, known, labels, 3)
    assert (ours.argmax(1).numpy() == other.predict(features.numpy())).all()
