"""Methods against their references, run by run: who shares what, and how runs deviate."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np


class Contrast(NamedTuple):
    """One method of one student against its reference, run by run.

    `own` and `reference` are the scores (S,) of paired runs, larger is better; `samples` (S, I) are the differences on each
    test sample, whose means over a row are own - reference, or None. Methods of one `group` share a reference and, as far
    as their runs say so, a deviation. `seeds` name the runs, so that those of several contrasts are known as the same; by
    default they are the positions. `pair` names own and reference where a group has no reference in common, as in a
    comparison of every two methods.
    """

    own: np.ndarray
    reference: np.ndarray
    samples: np.ndarray | None = None
    group: Hashable = ""
    seeds: tuple[Hashable, ...] | None = None
    pair: tuple[Hashable, Hashable] | None = None

    @property
    def runs(self) -> Sequence[Hashable]:
        """What names each run."""
        return range(len(self.own)) if self.seeds is None else self.seeds

    @property
    def gain(self) -> float:
        """The mean of own - reference."""
        return float(np.mean(np.asarray(self.own, float) - self.reference))


def by_group(contrasts: Sequence[Contrast]) -> dict[Hashable, list[int]]:
    """The places of each group's contrasts; pairs of their own are apart from those that share a reference."""
    groups = defaultdict(list)
    for place, contrast in enumerate(contrasts):
        groups[contrast.group, contrast.pair is None].append(place)
    return groups


def rows_of(members: Sequence[Contrast]) -> tuple[np.ndarray, list[tuple[tuple[int, int], list[int]]]]:
    """The scores (N, C) of methods and references by run, NaN where one has none; the two rows of each contrast, its columns."""
    columns: dict[Hashable, int] = {}
    rows: dict[Hashable, dict[int, float]] = {}
    places = []
    for number, one in enumerate(members):
        at = [columns.setdefault(run, len(columns)) for run in one.runs]
        own, reference = (dict(zip(at, np.asarray(each, float), strict=True)) for each in (one.own, one.reference))
        names = one.pair or (("own", number), _same(rows, reference) or ("reference", number))
        for name, cells in zip(names, (own, reference), strict=True):
            rows.setdefault(name, {}).update(cells)
        places.append((names, at))
    table = np.full((len(rows), len(columns)), np.nan)
    for row, cells in enumerate(rows.values()):
        table[row, list(cells)] = list(cells.values())
    order = {name: row for row, name in enumerate(rows)}
    return table, [((order[own], order[reference]), at) for (own, reference), at in places]


def _same(rows: dict[Hashable, dict[int, float]], cells: dict[int, float]) -> Hashable | None:
    """The name of a reference that has these scores wherever it has the same runs."""
    known = (name for name in rows if name[0] == "reference")
    return next(
        (name for name in known if all(rows[name].get(at, value) == value for at, value in cells.items())), None
    )


def mean_squares(table: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """That of each row (N,) about the effects of row and run, and its degrees of freedom (N,)."""
    if not len(table):
        return np.zeros(0), np.zeros(0)
    there = ~np.isnan(table)
    table = table[:, there.any(0)]
    there = there[:, there.any(0)]
    for _ in range(1 if there.all() else 30):
        table = table - np.nanmean(table, 1, keepdims=True)
        table = table - np.nanmean(table, 0)
    freedom = np.where(there, 1 - 1 / there.sum(0), 0).sum(1) * (1 - 1 / there.sum(1))
    return np.nansum(table**2, 1) / np.maximum(freedom, 1e-9) / scale, freedom
