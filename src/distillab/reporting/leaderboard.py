"""The leaderboard: of rows as tables, and over all runs so far `runs/leaderboard.csv` (a line a run) and `leaderboard.md`."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from distillab.core.files import replacing, writable
from distillab.core.rankable import rankable, told_apart
from distillab.core.result import REFERENCES, Result
from distillab.core.result_reader import by_path
from distillab.evaluation.families import Finding
from distillab.reporting import doubts
from distillab.reporting.answers import read_answers
from distillab.reporting.comparison import compare, tables
from distillab.reporting.metric_table import FEATURES, PLOTTED, RANKED, metric, percent
from distillab.reporting.network_sections import FEATURES_ABOUT, features_table
from distillab.reporting.ranking import lacking
from distillab.reporting.rows import Row, gap_closed, several
from distillab.reporting.tables import Cell, Table, bullets, figures, markdown, text, without_tags, write_csv
from distillab.reporting.timings import pooled
from distillab.reporting.verdict_words import table_words
from distillab.reporting.words import ends, part_of, row_words

ROLES = ("teacher", "student", "random")  # whose features are judged
log = logging.getLogger(__name__)
ABOUT = (
    "Ranks are by validation, among equal epochs and training samples, on the seeds that all ranked rows share. A score is the mean over runs ± their standard deviation; "
    "a gain is over the same student, seeds and schedule without a teacher, its 95 % interval corrected for all gains of its table, from the scatter of all its methods; "
    "the last gain is over the student alone trained for the same whole cost, in whole epochs, rounded up. "
    "(!): a warning says why a gain may say nothing of its method."
)
ABOUT_RANDOM = (
    "Where no label taught the student and its head was fitted afterwards, the gain is over the same student with random weights and "
    "a head fitted likewise, which has a row of its own: what the head brings is no gain."
)


def refresh(runs: Path) -> None:
    """Draw the leaderboard and the plot again, over all runs so far."""
    from distillab.reporting.plots import accuracy_plot  # late, as Altair takes its time

    with writable(runs, "paths.runs=…"):
        if rows := update(runs):
            accuracy_plot(rows, runs / "accuracy_vs_parameters.png")


def update(runs: Path) -> list[Row]:
    """Rewrite both leaderboards from all results below `runs`.

    Any number of processes may call it at once. Results that cannot be read are logged and listed at the end; a tuning's
    trials are counted there. Returns the rows.
    """
    runs.mkdir(parents=True, exist_ok=True)
    # The lock spans reading too, or a slower process would overwrite a newer leaderboard with what it read earlier.
    with FileLock(runs / ".leaderboard.lock"):
        found, left_out = by_path(runs)
        results, trials = rankable(found)
        results, answers, damaged = read_answers(results, runs, found)
        results = told_apart(results)
        write_csv(runs / "leaderboard.csv", map(run_record, results), first=("data", "protocol"))
        rows = compare(pooled(results), answers)
        page = _markdown(rows, [*left_out, *damaged, *trials])
        with replacing(runs / "leaderboard.md") as temporary:
            temporary.write_text(page, encoding="utf-8")
    for line in left_out:
        _tell(line)
    return rows


@cache
def _tell(line: str) -> None:
    """Log a line once, not after every cell of a sweep."""
    log.warning(line)


def _markdown(rows: list[Row], left_out: Sequence[str]) -> str:
    """Verdicts and tables, then the files that were left out."""
    parts = ["# Leaderboard", about(rows) if rows else "No results yet."]
    for members in tables(rows).values():
        board = leaderboard(members)
        parts += [f"## {board.title}", bullets(table_words(members)), markdown(board, aligned=True)]
        if (judged := features_table(members)).rows:
            parts += [FEATURES_ABOUT, markdown(judged, aligned=True)]
    parts += ["## Left out", bullets(left_out)] if left_out else []
    return without_tags("\n\n".join(parts) + "\n")


def about(rows: Sequence[Row]) -> str:
    """What ranks, scores and gains are."""
    return f"{ABOUT} {ABOUT_RANDOM}" if any(row.reference == "random" for row in rows) else ABOUT


def leaderboard(table: Sequence[Row]) -> Table:
    """One table, the best validation first; the notes say of each row what it shows, and what no column has."""
    shown, name = table[0].metric, table[0].primary.name
    # Where a column has gains over two references, or at two costs, each says which.
    references, costs = {row.reference for row in table if row.gain}, {row.charged for row in table if row.at_cost}

    def told(row: Row) -> str:
        over = f" (over {REFERENCES[row.reference]})" if len(references) > 1 else ""
        return over + doubts.MARK * bool(doubts.of_row(row))

    lines = [
        {
            "rank": Cell(text(row.rank), row.rank),
            "method": row.label,
            "student": row.student,
            shown.heading: Cell(_score(row), row.mean),
            f"validation{' %' if shown.unit == '%' else ''}": Cell(shown.form(row.validation), row.validation),
            **figures((f"{name}_best", f"{name}_last"), row.figure),
            "gain": _gain(row, row.gain, told(row)),
            "95 % interval": Cell(ends(row.gain, shown), row.gain and row.gain.low),
            "at the same cost": _gain(row, row.at_cost, f" ({row.charged})" if len(costs) > 1 else ""),
            **figures(PLOTTED, row.figure),
            **_latency(row),
        }
        for row in table
    ]
    seeds = next((row.ranked_on for row in table if row.ranked_on), ())
    notes = [f"{words(row)} {_details(row, seeds)}" for row in table]
    return Table.of(lines, table[0].place.words(several(table)), notes).without_empty()


def words(row: Row) -> str:
    """What a row shows, and what casts doubt on it."""
    return f"{row_words(row)}. {doubts.of_row(row)}".rstrip()


def _latency(row: Row) -> dict[str, Cell]:
    """The cell of a latency that is none to compare, marked."""
    shown = metric("latency_ms")
    value = row.figure("latency_ms")
    return {shown.heading: Cell(f"{shown.form(value)} (busy)", value)} if value is not None and row.busy else {}


def _score(row: Row) -> str:
    spread = row.interval.deviation
    return row.metric.form(row.mean) + ("" if spread is None else f" ± {row.metric.form(spread)}")


def _gain(row: Row, found: Finding | None, told: str) -> Cell:
    """A gain, the runs that it is over where it is not all, and what else is told of it."""
    gain = found and found.gain
    return Cell(row.metric.difference(gain) + part_of(found, row) + (told if found else ""), gain)


def _details(row: Row, ranked_on: Sequence[int | None]) -> str:
    """What no column has; `ranked_on` are the seeds by which the table ranks."""
    lacks = lacking(row, ranked_on)
    size, gap = row.figure("size_bytes"), row.gap_closed
    told = {
        "taught by": row.teacher,
        # The share of a gap says nothing where the gain is not shown, and a negative one nothing that the gain does not.
        "gap to the teacher closed": gap and gap > 0 and row.gain and row.gain.shown and f"{percent(gap, 0)} %",
        "seeds": " ".join(map(str, row.seeds)),
        "ranked by seeds": row.rank and row.ranked_on != row.seeds and " ".join(map(str, row.ranked_on)),
        "not ranked without seeds": row.kind != "longer" and " ".join(map(str, lacks)),
        "labels": row.labels,
        "size": size and f"{metric('size_bytes').form(size)}B",
        "timed on": row.measured_on and row.measured_on + (", busy: no speed is compared" if row.busy else ""),
        "on the front in": ", ".join(metric(key).label for key in row.front),
    }
    words = "; ".join(f"{key} {value}" for key, value in told.items() if value)
    return f"{words[:1].upper()}{words[1:]}."


def run_record(result: Result) -> dict[str, Any]:
    """The line of one run: raw numbers."""
    name, figure = result.primary.name, result.student.figure
    seeds = {f"{key}_seed": value for key, value in result.seeds.items() if key != "seed"}
    return {
        "data": result.data.name, "protocol": result.protocol, "name": result.name, "strategy": result.method,
        "student": result.student.name, "teacher": result.teacher and result.teacher.name,
        "epochs": result.student.training.epochs, "train": result.data.train, "seed": result.seed, **seeds,
        name: result.primary.value, **{key: figure(key) for key in (f"{name}_best", f"{name}_last")},
        f"validation_{name}": result.student.validation.get(name),
        "gain": result.gain, "gain_over": None if result.gain is None else result.reference, "gap_closed": gap_closed(result),
        f"teacher_{name}": result.score("teacher"), f"baseline_{name}": result.score("baseline"),
        f"random_{name}": result.score("random"),
        f"longer_{name}": result.longer and result.longer.metrics.get(name),
        "longer_epochs": result.longer and result.longer.epochs,
        **{key: figure(key) for key in RANKED},
        **{f"{role}_{key}": getattr(one, key) for role, one in (result.features or {}).items() for key in FEATURES},
        "changed": " ".join(result.overrides), "run": result.config_hash,
    }  # fmt: skip


def row_record(row: Row) -> dict[str, Any]:
    """The line of one row: raw numbers."""
    name = row.primary.name
    return {
        **row.place._asdict(), "rank": row.rank, "kind": row.kind, "gain_over": (row.kind == "distilled" and row.reference) or None, "method": row.method, "student": row.student,
        "teacher": row.teacher, "trained_epochs": row.epochs, "changed": row.changed, "seeds": " ".join(map(str, row.seeds)),
        name: row.mean, "deviation": row.interval.deviation, f"validation_{name}": row.validation,
        **{key: row.figure(key) for key in (f"{name}_best", f"{name}_last", "balanced_accuracy", "macro_f1", *RANKED)},
        **_numbers("gain", row.gain), "gap_closed": row.gap_closed, **_numbers("gain_at_cost", row.at_cost),
        **{f"{role}_{key}": found[key] for role in ROLES if (found := row.features(role)) for key in FEATURES},
        "measured_on": row.measured_on, "front": " ".join(row.front), "words": words(row),
        "runs": " ".join(result.config_hash for result in row.results),
    }  # fmt: skip


def _numbers(name: str, found: Finding | None) -> dict[str, Any]:
    """A finding's columns; the mean has the gain's name alone."""
    known = found._asdict() if found else {}
    kept = ("low", "high", "p", "size", "chance_better", "chance_above", "chance_within")
    return {name: known.get("gain")} | {f"{name}_{key}": known.get(key) for key in kept}
