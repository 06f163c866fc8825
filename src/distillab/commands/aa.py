"""A method against itself: what the test of the reports makes of runs that differ in nothing but their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distillab.commands.contrasts import Scored, scored
from distillab.commands.invocation import finished
from distillab.commands.sweep import Sweep, about, recorded
from distillab.commands.tuning.page import gain
from distillab.core.errors import UserError
from distillab.core.files import replacing, writable
from distillab.core.output import rank_zero_print
from distillab.core.result_parts import Primary
from distillab.core.run_identity import population_words
from distillab.evaluation.against_itself import Repeats, Share, Study, against_itself
from distillab.evaluation.kept import together
from distillab.reporting.metric_table import metric, percent
from distillab.reporting.tables import Table, markdown, print_table, terminal, without_tags

HEADINGS = ("test", "comparisons", "a difference is shown in", "gain of the first")
FEWEST = 4  # runs of a method


class Method(NamedTuple):
    """The runs of one method by seed; `label` has what tells it from the others."""

    label: str
    student: str
    primary: Primary  # of any of its runs
    population: tuple[str, ...]
    runs: dict[int, Scored]


class Report(Sweep):
    """Hydra's callback for the end of such a sweep."""

    def _report(self, folder: Path, runs: Path) -> None:
        """Write the page and print its table; no report, in which one method would have no other beside it."""
        methods = read(folder, runs)
        study = against_itself(_repeats(methods))
        with writable(folder, "paths.runs=…"), replacing(folder / "aa.md") as temporary:
            temporary.write_text(page(about(folder)["command"], methods, study), encoding="utf-8")
        note = without_tags(" ".join(notes(methods, study)))
        print_table(terminal(table(methods, study), note))
        rank_zero_print(verdict(study), result=True)
        rank_zero_print(f"{folder}/aa.md")


def read(folder: Path, runs: Path) -> list[Method]:
    """The methods of the sweep in `folder`, whose results lie below `runs`; those that failed are left out."""
    words = {tuple(word for word in one["overrides"] if not word.startswith("seed=")) for one in recorded(folder)}
    shared = set.intersection(*map(set, words)) if words else set()
    found: dict[tuple[str, ...], Method] = {}
    for record in recorded(folder):
        own = tuple(word for word in record["overrides"] if not word.startswith("seed="))
        result = finished(runs / record["run"]) if "run" in record else None
        if result is None or result.seed is None:
            continue
        apart = [word for word in own if word not in shared and not word.startswith("strategy=")]
        label = " ".join([record["strategy"], *apart])
        method = Method(label, result.student.name, result.primary, result.population, {})
        found.setdefault(own, method).runs[result.seed] = scored(runs / record["run"], result.primary)
    return list(found.values())


def _repeats(methods: Sequence[Method]) -> list[Repeats]:
    """Their runs on the seeds that all of them have. UserError where these are too few."""
    seeds = sorted(set.intersection(*(set(one.runs) for one in methods))) if methods else []
    if len(seeds) < FEWEST:
        raise UserError(f"sweep=aa needs {FEWEST} runs of each method, got {len(seeds)}: seed=range(10)")
    found = []
    for one in methods:
        runs = [one.runs[seed] for seed in seeds]
        samples = together([run.samples for run in runs])
        found.append(Repeats(np.array([run.score for run in runs]), samples, one.student))
    return found


def title(methods: Sequence[Method]) -> str:
    """What is compared with what."""
    return f"{', '.join(one.label for one in methods)} against {'itself' if len(methods) == 1 else 'themselves'}"


def table(methods: Sequence[Method], study: Study) -> Table:
    """The shares."""
    several = "run" if study.runs == 1 else "runs"
    named = [
        (f"{study.runs} {several} a side, by their scores", study.scores),
        (f"{study.runs} {several} a side, by their scores and test samples", study.samples),
        ("1 run a side, by test samples: speaks of two trained files", study.single),
    ]
    known = [(name, share) for name, share in named if share]
    lines = [(name, f"{share.of:,}", f"{percent(share.value, 1)} %", _gains(methods, share)) for name, share in known]
    return Table(HEADINGS, lines, title(methods))


def _gains(methods: Sequence[Method], share: Share) -> str:
    shown = metric(methods[0].primary.name, methods[0].primary.higher_is_better)
    labels = [f"{one.label} " if len(methods) > 1 else "" for one in methods]
    return "; ".join(f"{label}{gain(finding, shown)}" for label, finding in zip(labels, share.first, strict=True))


def notes(methods: Sequence[Method], study: Study) -> list[str]:
    """What the shares are, and are not."""
    together = "" if len(methods) == 1 else f", the {len(methods)} methods of a split corrected together,"
    new = population_words(methods[0].population)
    found = [
        f"{2 * study.runs} runs of each method, with {new}, halved in {study.scores.of:,} ways; the test is that of the "
        f"reports{together} and every difference that it shows is a false one.",
        "The splits share their runs, so they are no independent tests: in 95 of 100 simulated studies of as many equal "
        f"runs a right test, at 5 %, shows a difference in {percent(study.low, 1)} to {percent(study.high, 1)} % of the "
        "splits. Only more runs (seed=range(40)) narrow this.",
    ]
    if study.single is not None:
        found.append(
            "Two trained files do differ, so the last line may exceed 5 %: it is why one seed says nothing of a method."
        )
    return found


def verdict(study: Study) -> str:
    """One line: whether the test shows differences more often than it may."""
    share, bounds = f"{percent(study.tested.value, 1)} %", f"{percent(study.low, 1)} to {percent(study.high, 1)} %"
    if study.tested.value > study.high:
        return f"a difference is shown in {share} of the splits, and a right test gives {bounds}: too many false ones"
    few = ": too few runs to tell (seed=range(20))" if study.high > 0.5 else ""
    return f"a difference is shown in {share} of the splits, within what a right test gives ({bounds}){few}"


def page(command: str, methods: Sequence[Method], study: Study) -> str:
    """The same as a Markdown page."""
    said = verdict(study)
    parts = [f"# {title(methods)}\n\n    {command}", f"{said[0].upper()}{said[1:]}."]
    parts += [markdown(table(methods, study)), *notes(methods, study)]
    return without_tags("\n\n".join(parts) + "\n")
