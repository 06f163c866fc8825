"""What the features of a run's networks are worth where no label taught the student."""

from collections.abc import Mapping

from distillab.core.output import rank_zero_print
from distillab.core.result import Role
from distillab.core.result_parts import Features, Training
from distillab.data.module import DataModule
from distillab.evaluation.metrics import top1
from distillab.evaluation.neighbours import by_neighbours
from distillab.models.model import Model
from distillab.schemes.record import FittedHead, Record
from distillab.training.linear_probe import embeddings, fit_head, known_embeddings, probe


def headed(student: Model, record: Record, data: DataModule, device: str) -> Record:
    """Fit the head of a student to the labelled training samples once its features have learned; its record."""
    found = _fitted(student, data, device, "a head was fitted on the features of the last epoch")
    rank_zero_print(f"{student.info.name}: {found.training.source}")
    took, fit = found.training.seconds, record.training
    spent = {"seconds": fit.seconds + took, "time": fit.time and fit.time | {"head": took}}
    return record.changed(source=found.training.source, **spent).with_head(found.head)


def untaught(student: Model, data: DataModule, device: str) -> Record:
    """Fit the head of the same student with random weights in the same way, which is what its gain is over; its record."""
    return _fitted(student, data, device, "random weights, and a head that was fitted on their features")


def _fitted(network: Model, data: DataModule, device: str, told: str) -> Record:
    known = data.labelled_only(repeated=False)
    fitted = fit_head(network, known, device)
    source = f"{told}, to {fitted.samples:,} labelled samples"
    head = FittedHead(data=known.fingerprint, samples=fitted.samples, decay=fitted.decay)
    return Record(training=Training(seconds=fitted.seconds, source=source), head=head)


def headed_by(data: DataModule, records: Mapping[Role, Record]) -> list[Role]:
    """The networks whose own head was fitted to the training samples of `data`, and so is their linear probe."""
    return [role for role, record in records.items() if record.head and record.head.data == data.fingerprint]


def judged(
    networks: Mapping[str, Model], data: DataModule, device: str, fitted: Mapping[str, float]
) -> dict[str, Features]:
    """The test accuracy of each network's features: by nearest neighbours, and by a linear probe.

    `data` have the labelled training samples alone, each once; both learn from these. A network whose own head was `fitted`
    to them has its test accuracy as the probe's. Networks without a linear head, whose features are not known, are left out.
    """
    found = {}
    for role, network in networks.items():
        if network.info.head is None:
            continue
        known = known_embeddings(network, data, device)
        features, test = embeddings(network, data, "test", device)
        accuracy = fitted[role] if role in fitted else top1(probe(network, data, device, known)(features), test)
        votes = by_neighbours(features, *known, network.info.outputs)
        found[role] = Features(neighbours=top1(votes, test), probe=accuracy, samples=len(known[1]))
    return found
