"""Which rows are of one table: the same data, protocol, budget, labels and population."""

from collections.abc import Iterable
from typing import NamedTuple

from distillab.core.result import Result
from distillab.core.run_identity import population_words
from distillab.reporting.metric_table import counted

# Which labels student and teacher know: a column of its own.
LABELS = (("data", "labels"), ("data", "labelled"), ("teacher", "labelled"), ("teacher", "corrupt_classes"))


class Place(NamedTuple):
    """What the rows of one table have in common; only these are ranked and tested together."""

    data: str
    protocol: str
    epochs: int | None
    steps: int | None  # where the recipe counts these
    train: int | None
    labels: str  # those that the student knows, where not all; empty else
    population: tuple[str, ...] = ("init",)  # what its runs draw anew, by the names of `vary`
    figure: str = "top1"  # the primary one

    def words(self, sample: str = "images") -> str:
        """The title of the table."""
        known = [self.data, f"protocol {self.protocol}"]
        known += [counted(self.epochs, "epoch")] if self.epochs is not None else []
        known += [counted(self.steps, "step")] if self.steps is not None else []
        known += [counted(self.train, f"training {sample.removesuffix('s')}")] if self.train is not None else []
        new = population_words(self.population) if self.population != ("init",) else ""
        return ", ".join([*known, *filter(None, [self.labels, new])])


def labels_of(result: Result, keys: Iterable[tuple[str, str]]) -> str:
    """Which labels were known, by the keys of `LABELS`; empty where all were."""
    known = ((role, key, (result.config.get(role) or {}).get(key)) for role, key in keys)
    return ", ".join(f"{role}.{key}={value}" for role, key, value in known if value not in (None, "all", 1.0))
