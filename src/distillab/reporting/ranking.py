"""Ranks by validation, all on the same seeds: which these are, and what place each row has there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from distillab.reporting.rows import Row


def placed(rows: Sequence[Row]) -> list[Row]:
    """The rows of a table with their ranks, by validation, or by test where a protocol has no validation.

    Only the runs of the seeds that all ranked rows share count. A row that lacks one of these has no rank, and neither has
    the student alone that was trained longer.
    """
    known = [row for row in rows if row.kind != "longer"]
    seeds = shared_seeds(known) if known else ()
    ranked = {id(row): row.at(seeds) for row in known if set(seeds) <= set(row.seeds)}
    on_test = any(row.validation is None for row in ranked.values())
    scores = {key: row.sign * fmean(row.scores if on_test else row.validations) for key, row in ranked.items()}

    def place(row: Row) -> Row:
        if id(row) not in scores:
            return replace(row, rank=None, ranked_on=())
        rank = 1 + sum(other > scores[id(row)] for other in scores.values())
        return replace(row, rank=rank, ranked_on=seeds)

    return [place(row) for row in rows]


def shared_seeds(rows: Sequence[Row]) -> tuple[int | None, ...]:
    """The seeds on which these rows are ranked: of those sets that more than half of the methods have whole, the one of the most runs.

    A method with one seed beside others with several is left out of that. So neither many seeds of one method nor few of
    another one take the ranks from the rest. Tried are the seeds of each method, and of all seeds the ones that the most methods have. Where the methods' seeds have so little in common that
    none of these is shared by half of them, the one of the most runs counts all the same.
    """
    methods = [frozenset(row.seeds) for row in rows if row.kind == "distilled"]
    methods = methods or [frozenset(row.seeds) for row in rows]
    methods = [seeds for seeds in methods if len(seeds) > 1] or methods
    counts = Counter(seed for seeds in methods for seed in seeds)
    common = sorted(counts, key=lambda seed: (-counts[seed], seed is None, seed or 0))
    tried = [*methods, *(frozenset(common[:many]) for many in range(1, len(common) + 1))]
    have = {seeds: sum(seeds <= own for own in methods) for seeds in tried}
    most = {seeds: many for seeds, many in have.items() if 2 * many > len(methods)} or have
    best = max(most, key=lambda seeds: (most[seeds] * len(seeds), most[seeds]))
    return tuple(sorted(best, key=lambda seed: (seed is None, seed or 0)))


def lacking(row: Row, seeds: Sequence[int | None]) -> tuple[int | None, ...]:
    """Those of the seeds that a row has no run of."""
    return tuple(seed for seed in seeds if seed not in row.seeds)
