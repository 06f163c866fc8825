"""Vectors in four Gaussian classes: a data set that is no images."""

from dataclasses import dataclass

import numpy as np
import torch

from distillab.data.batch import AS_STORED, Batch
from distillab.data.collection import Collection, DataInfo, digest
from distillab.data.module import DataModule
from distillab.data.seeded import uniform
from distillab.data.splits import TEST_FRACTION, TEST_SEED, carve

COUNT, LENGTH, CLASSES = 400, 12, ("north", "east", "south", "west")
NOISE = 256  # the first of the views' streams, one for each number of a vector


@dataclass(frozen=True, kw_only=True)
class VectorInfo(DataInfo):
    length: int


@dataclass(frozen=True, kw_only=True)
class VectorCollection(Collection):
    vectors: torch.Tensor  # (M, LENGTH) float32


class VectorViews:
    """Vectors in memory, with seeded noise unless they are to be as stored."""

    def __init__(self, vectors, labels, noise, view_seed):
        self.vectors, self.labels, self.noise, self.view_seed = vectors, labels, noise, view_seed

    def __len__(self):
        return len(self.vectors)

    def batch(self, index, number):
        vectors = self.vectors[index]
        if number != AS_STORED:
            draws = [uniform(self.view_seed, number, index, NOISE + place) for place in range(vectors.shape[1])]
            vectors = vectors + self.noise * (torch.stack(draws, 1) - 0.5)
        return Batch([{"vector": vectors}], {"labels": self.labels[index]}, index, number)


class VectorData(DataModule):
    """400 vectors of 12 numbers; a view adds noise from -noise/2 to noise/2."""

    def __init__(self, name="vectors", noise=0.5, **common):
        super().__init__(name, **common)
        self.noise = noise

    def _collect(self):
        draw = np.random.RandomState(0)
        labels = np.arange(COUNT) % len(CLASSES)
        vectors = (draw.randn(len(CLASSES), LENGTH)[labels] + draw.randn(COUNT, LENGTH)).astype(np.float32)
        rows = np.arange(COUNT)
        train, test = carve(rows, labels, CLASSES, TEST_FRACTION, seed=(TEST_SEED,), mend="change COUNT")
        return VectorCollection(digest(vectors), CLASSES, labels, train, test, vectors=torch.from_numpy(vectors))

    def _describe(self):
        return VectorInfo(self.name, CLASSES, length=LENGTH)

    def _numbers(self):
        return {"noise": self.noise, "view_seed": self.view_seed}

    def _source(self, split, training):
        rows = self.rows[split]
        return VectorViews(self.collection.vectors[rows], self._labels_of(split)[rows], self.noise, self.view_seed)
