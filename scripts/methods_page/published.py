"""Published figures: docs/published.yaml as objects, each with the setting it was measured in and the command for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HEAVY, LIGHT = "crd_pair", "light_pair"  # experiments of CIFAR-100; the other for students that learn at a lower rate
ROOT = "data.root=/path/to/imagenet"


@dataclass(frozen=True)
class Source:
    """Where figures come from, and how their students were trained.

    Attributes:
        epoch: whose figure it is, `last` or `best` (on test); None where nobody says.
        lr_of: the learning rate of students that have another one than `lr`.
        recipe: other keys of the recipe that differ from conf/recipe.
    """

    name: str
    repository: str
    paper: str
    epochs: int
    batch_size: int
    lr: float
    epoch: str | None
    lr_of: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """To the repository, in Markdown."""
        return f"[{self.repository.rpartition('/')[2]}](https://github.com/{self.repository})"


@dataclass(frozen=True)
class Figure:
    """One published top-1, in percent; `words` are the overrides that choose its experiment and methods."""

    method: str
    teacher: str
    student: str
    top1: float
    source: Source
    words: tuple[str, ...]

    @property
    def lr(self) -> float:
        """The student's learning rate."""
        return self.source.lr_of.get(self.student, self.source.lr)

    @property
    def command(self) -> str:
        """The command that would reproduce it."""
        return " ".join(("python train.py", *self.words))


@dataclass(frozen=True)
class Table:
    """Figures of one source: a row for each method, a column for each pair; None where there is none."""

    source: Source
    pairs: tuple[str, ...]
    teacher: tuple[float, ...]
    rows: Mapping[str, tuple[Figure | None, ...]]

    @property
    def figures(self) -> list[Figure]:
        """Row by row."""
        return [figure for row in self.rows.values() for figure in row if figure is not None]

    def sweep(self, column: int) -> str:
        """The one command for a whole column, whose figures differ in their method alone; ValueError where they do not."""
        figures = [row[column] for row in self.rows.values() if row[column] is not None]
        rest = {tuple(word for word in one.words if not word.startswith("strategy=")) for one in figures}
        if len(rest) != 1:
            raise ValueError(f"the methods of {self.pairs[column]} have overrides of their own")
        methods = ",".join(one.method for one in figures)
        return " ".join(("python train.py -m", *rest.pop(), f"strategy={methods}"))


@dataclass(frozen=True)
class Published:
    """All figures, and what is said about them."""

    about: str
    tables: tuple[Table, ...]
    different: Mapping[str, str] = field(default_factory=dict)  # by method, what is built otherwise on purpose

    @property
    def figures(self) -> list[Figure]:
        """Those of all tables."""
        return [figure for one in self.tables for figure in one.figures]

    def top1(self, method: str, teacher: str, student: str) -> float | None:
        """A method's figure on a pair, None where there is none."""
        known = (one for one in self.figures if (one.method, one.teacher, one.student) == (method, teacher, student))
        return next((one.top1 for one in known), None)


def read(docs: Path) -> Published:
    """What published.yaml in `docs` holds; raises TypeError or ValueError for a file of another form."""
    content = yaml.safe_load((docs / "published.yaml").read_text())
    sources = {name: Source(name, **node) for name, node in content["sources"].items()}
    tables = tuple(_table(node, sources) for node in content["tables"])
    return Published(content["about"].strip(), tables, content.get("different", {}))


def _table(node: Mapping[str, Any], sources: Mapping[str, Source]) -> Table:
    source, pairs = sources[node["source"]], node["pairs"]
    rows = {}
    for method, values in node["top1"].items():
        overrides = node.get("overrides", {}).get(method, [None] * len(pairs))
        row = []
        for pair, top1, own in zip(pairs, values, overrides, strict=True):
            teacher, student = pair.split("→")
            experiment = node.get("experiment", {}).get(method) or (LIGHT if student in source.lr_of else HEAVY)
            of_images = [ROOT] if teacher == "resnet34" else [f"teacher={teacher}", f"student={student}"]
            strategy = node.get("strategy", {}).get(method, method)
            own_strategy = [] if method in node.get("experiment", {}) else [f"strategy={strategy}"]
            words = (f"experiment={experiment}", *of_images, *own_strategy, *(own or "").split())
            row.append(None if top1 is None else Figure(method, teacher, student, top1, source, words))
        rows[method] = tuple(row)
    return Table(source, tuple(pairs), tuple(node.get("teacher", ())), rows)
