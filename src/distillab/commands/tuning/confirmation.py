"""Confirmation of tuned numbers: each method with the chosen and with its own numbers, on seeds that no trial has used."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distillab.commands.contrasts import contrast, scored
from distillab.evaluation.families import Contrast, Finding, family

if TYPE_CHECKING:
    from distillab.commands.tuning.study import Run, Tuned


@dataclass(frozen=True)
class Confirmed:
    """One method on the fresh seeds: its primary figure on test by seed, with the chosen numbers and with its own.

    `over_alone` is the gain over the student alone, which was tuned as much; `by_tuning` that of the chosen numbers over its
    own. Each is corrected over the methods of the table, and None where there is nothing to compare.
    """

    method: str
    primary: str
    numbers: Sequence[str]  # the chosen ones, as overrides: none where its own are the best
    tuned: Mapping[int, float]
    untuned: Mapping[int, float]
    over_alone: Finding | None = None
    by_tuning: Finding | None = None


@dataclass
class Confirmation:
    """The runs of all methods on `count` fresh seeds: what is left of them, and what they show."""

    methods: Sequence["Tuned"]
    count: int
    searched: list[int] = field(init=False)  # the seeds of the trials
    fresh: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.searched = sorted({one.seed for one in self.methods})
        self.fresh = [self.searched[-1] + step for step in range(1, self.count + 1)]

    def left(self) -> list[tuple["Tuned", tuple[str, ...], int]]:
        """Method, numbers and seed of each run that is not there yet; a method without a good trial has none.

        Seed by seed: what is cut off has about as many of each method.
        """
        wanted = [
            (one, numbers, seed)
            for seed in self.fresh
            for one in self.methods
            if one.chosen is not None
            for numbers in dict.fromkeys(((), one.chosen))
        ]
        return [(one, numbers, seed) for one, numbers, seed in wanted if seed not in one.confirmed(numbers)]

    def outcome(self, runs: Path) -> list[Confirmed]:
        """What the runs, which lie below the folder `runs`, show so far."""
        chosen = [one for one in self.methods if one.chosen is not None]
        tuned = {id(one): self._there(one, one.chosen) for one in chosen}
        untuned = {id(one): self._there(one, ()) for one in chosen}
        over_alone = {
            id(one): self._contrast(one, tuned[id(one)], tuned.get(id(one.alone), {}), runs)
            for one in chosen
            if one.alone is not None
        }
        by_tuning = {
            id(one): self._contrast(
                one, tuned[id(one)], untuned[id(one)], runs, ((id(one), "tuned"), (id(one), "untuned"))
            )
            for one in chosen
            if one.chosen
        }
        first, second = _tested(over_alone), _tested(by_tuning)
        return [
            Confirmed(
                method=one.method,
                primary=one.task.primary,
                numbers=one.chosen,
                tuned={seed: run.test for seed, run in tuned[id(one)].items()},
                untuned={seed: run.test for seed, run in untuned[id(one)].items()},
                over_alone=first.get(id(one)),
                by_tuning=second.get(id(one)),
            )
            for one in chosen
        ]

    def _there(self, one: "Tuned", numbers: Sequence[str]) -> dict[int, "Run"]:
        known = one.confirmed(numbers)
        return {seed: known[seed] for seed in self.fresh if seed in known}

    def _contrast(
        self,
        one: "Tuned",
        own: Mapping[int, "Run"],
        other: Mapping[int, "Run"],
        runs: Path,
        pair: tuple[Hashable, Hashable] | None = None,
    ) -> Contrast | None:
        """A method against another, on the seeds that both have; None where they share none."""
        seeds = [seed for seed in own if seed in other]
        read = ([scored(runs / each[seed].folder, one.primary(each[seed])) for seed in seeds] for each in (own, other))
        # The methods that have one student alone beside them share its deviation, as far as their runs say so.
        group = " ".join((one.alone or one).words)
        return contrast(*read, group=group, seeds=seeds, pair=pair) if seeds else None


def _tested(contrasts: Mapping[int, Contrast | None]) -> dict[int, Finding]:
    known = {key: each for key, each in contrasts.items() if each is not None}
    return dict(zip(known, family(list(known.values())), strict=True)) if known else {}
