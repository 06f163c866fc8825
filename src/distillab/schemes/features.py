"""What the features of a run's networks are worth where no label taught the student."""

from collections.abc import Mapping

from distillab.core.result_parts import Features
from distillab.data.labels import UNKNOWN
from distillab.data.module import DataModule
from distillab.evaluation.metrics import top1
from distillab.evaluation.neighbours import by_neighbours
from distillab.models.model import Model
from distillab.training.linear_probe import embeddings, probe


def judged(networks: Mapping[str, Model], data: DataModule, device: str) -> dict[str, Features]:
    """The test accuracy of each network's features: by nearest neighbours, and by a linear probe.

    `data` have the labelled training samples alone, each once; both learn from these. Networks without a linear head, whose
    features are not known, are left out.
    """
    found = {}
    for role, network in networks.items():
        if network.info.head is None:
            continue
        known, labels = embeddings(network, data, "train", device)
        known, labels = known[labels != UNKNOWN], labels[labels != UNKNOWN]
        features, test = embeddings(network, data, "test", device)
        fitted, classes = probe(network, data, device), network.info.outputs
        votes = by_neighbours(features, known, labels, classes)
        found[role] = Features(neighbours=top1(votes, test), probe=top1(fitted(features), test), samples=fitted.samples)
    return found
