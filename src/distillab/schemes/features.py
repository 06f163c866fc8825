"""What the features of a run's networks are worth where no label taught the student."""

from collections.abc import Mapping

from distillab.core.result_parts import Features
from distillab.data.module import DataModule
from distillab.evaluation.metrics import top1
from distillab.evaluation.neighbours import by_neighbours
from distillab.models.model import Model
from distillab.training.linear_probe import embeddings, known_embeddings, probe


def judged(networks: Mapping[str, Model], data: DataModule, device: str) -> dict[str, Features]:
    """The test accuracy of each network's features: by nearest neighbours, and by a linear probe.

    `data` have the labelled training samples alone, each once; both learn from these. Networks without a linear head, whose
    features are not known, are left out.
    """
    found = {}
    for role, network in networks.items():
        if network.info.head is None:
            continue
        known = known_embeddings(network, data, device)
        features, test = embeddings(network, data, "test", device)
        fitted = probe(network, data, device, known)
        votes = by_neighbours(features, *known, network.info.outputs)
        found[role] = Features(neighbours=top1(votes, test), probe=top1(fitted(features), test), samples=fitted.samples)
    return found
