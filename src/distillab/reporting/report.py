"""The report: one HTML page over all runs that opens from disk, and the same figures as Markdown, CSV and pictures."""

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from distillab.core.errors import UserError
from distillab.core.files import replacing, writable
from distillab.core.rankable import rankable, told_apart
from distillab.core.result import Result
from distillab.core.result_reader import by_path
from distillab.reporting import looks, tables
from distillab.reporting.answers import Answers, read_answers
from distillab.reporting.comparison import compare
from distillab.reporting.comparison import tables as by_place
from distillab.reporting.leaderboard import about, leaderboard, row_record
from distillab.reporting.metric_table import PLOTTED, counted
from distillab.reporting.rows import Row
from distillab.reporting.sections import sections
from distillab.reporting.timings import pooled
from distillab.reporting.verdict_words import table_words

GAINS = "![The gains with their intervals](gains.png)"
PICTURE = "![The primary figure against deployed parameters](accuracy_vs_parameters.png)"
NAMED = 5  # methods in the first line


class Written(NamedTuple):
    """The page, and what it says first: verdicts, and a table of rows for each place."""

    path: Path
    verdicts: Sequence[str]
    leaderboard: Sequence[tables.Table]


@dataclass(frozen=True)
class Page:
    """What the report shows, verdicts first."""

    summary: str
    verdicts: Sequence[str]
    leaderboard: Sequence[tables.Table]
    about: str
    sections: Sequence[tables.Section]
    left_out: Sequence[str]
    newest: str


def write_report(runs: Path, out: Path, results: list[Result] | None = None) -> Written:
    """Write `out` (HTML, one file, no network), and beside it its `.md`, `.csv` and the plots `gains` and `accuracy_vs_<cost>`.

    `results` stand for all that lie at `<name>/<hash>/result.json` below `runs`. Each file is replaced atomically.
    Raises UserError where no result can be read, or a file cannot be written.
    """
    from distillab.reporting.plots import accuracy_plot, budget_plot, gains_plot  # late, as Altair takes its time

    if out.suffix not in (".html", ".htm"):
        raise UserError(f"{out} is no name for a page: it must end in .html, as .md and .csv lie beside it (--out)")
    found: dict[Path, Result] = {}
    left_out: list[str] = []
    if results is None:
        if not runs.is_dir():
            raise UserError(f"{runs} is not a folder: name the one that holds the runs (paths.runs of the training)")
        found, left_out = by_path(runs)
        results, trials = rankable(found)
        left_out += trials
    results, answers, damaged = read_answers(results, runs, found)
    left_out += damaged
    if not results:
        why = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"{runs} holds no result that can be shown{why}: train first, or name its paths.runs")
    rows = compare(pooled(told_apart(results)), answers)
    page = _page(rows, left_out, answers)
    with writable(out.parent, "--out FILE"):
        for path, content in ((out, _html(page)), (out.with_suffix(".md"), _markdown(page))):
            with replacing(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
        tables.write_csv(out.with_suffix(".csv"), map(row_record, rows))
        for cost in PLOTTED:
            accuracy_plot(rows, out.parent / f"accuracy_vs_{cost}.png", cost)
        gains_plot(rows, out.parent / "gains.png")
        budget_plot(rows, out.parent / "accuracy_vs_epochs.png")
    return Written(out, page.verdicts, page.leaderboard)


def _page(rows: list[Row], left_out: list[str], answers: Answers) -> Page:
    runs = {result.config_hash: result for row in rows for result in row.results}
    boards = by_place(rows).values()
    return Page(
        summary=f"{counted(len(runs), 'run')}: {_methods(rows)} on {', '.join(sorted({row.place.data for row in rows}))}.",
        verdicts=[*(line for members in boards for line in table_words(members)), *_lacks(left_out)],
        leaderboard=[leaderboard(members) for members in boards],
        about=about(rows),
        sections=sections(rows, answers),
        left_out=left_out,
        newest=max(result.created for result in runs.values())[:10],
    )


def _lacks(left_out: Sequence[str]) -> list[str]:
    """That something is left out, beside the verdicts: a method may be missing among them."""
    if not left_out:
        return []
    lines = f"{counted(len(left_out), 'line')} at the end of the page say{'s' * (len(left_out) == 1)}"
    return [f"Not all that was found is compared: {lines} what is left out, and why."]


def _methods(rows: list[Row]) -> str:
    """The names of the methods with a teacher, of many the first."""
    names = sorted({row.method for row in rows if row.kind == "distilled"})
    more = [f"{len(names) - NAMED} more"] * (len(names) > NAMED)
    return " and ".join(filter(None, (", ".join(names[:NAMED]), *more))) or "students alone"


class Charts:
    """The specifications of the page's charts, which are much alike: the page has them compressed."""

    def __init__(self) -> None:
        self.drawn: list[dict[str, Any]] = []

    def place(self, chart: Any) -> int:
        """The place of an Altair chart among those of the page."""
        self.drawn.append(chart.to_dict(validate=False))  # which takes most of the time, and is the tests'
        return len(self.drawn) - 1

    @property
    def packed(self) -> str:
        """What the page draws from."""
        return packed(json.dumps(self.drawn, separators=(",", ":")))


def packed(text: str) -> str:
    """A text as the page unpacks it: gzip in Base64, which cannot end a script."""
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _html(page: Page) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("distillab.reporting", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html.j2")
    return template.render(page=page, charts=Charts(), vega=_vega(), config=looks.CONFIG)


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one packed script, whose making takes seconds."""
    from vl_convert import javascript_bundle

    return packed(javascript_bundle())


def _markdown(page: Page) -> str:
    """The page's sentences and tables; of those too long to read, what the HTML page has of them."""
    parts = ["# Distillation report", page.summary, tables.bullets(page.verdicts)]
    parts += [GAINS] * any(section.name == "gains" for section in page.sections)
    parts += ["## Leaderboard", page.about]
    for board in page.leaderboard:
        notes = [f"{row[1]}, {row[2]}: {note}" for row, note in zip(board.texts, board.notes, strict=True)]
        parts += [f"### {board.title}", tables.markdown(board), tables.bullets(notes)]
    parts.append(PICTURE)
    for section in page.sections:
        told = [view for view in section.views if view.text or view.tables]
        if told:
            parts += [f"## {section.title}", section.text]
        for view in told:
            parts += [f"### {', '.join(view.key)}"] if view.key else []
            parts += [tables.bullets(view.text)] if view.text else []
            parts += map(tables.markdown, view.tables[: section.kept])
            if further := view.tables[len(view.tables[: section.kept]) :]:
                sizes = " and ".join(counted(len(table.rows), "row") for table in further)
                parts.append(
                    f"The HTML page has {counted(len(further), 'further table' if section.kept else 'table')} of this, of {sizes}."
                )
    if page.left_out:
        parts += ["## Left out", tables.bullets(page.left_out)]
    return "\n\n".join(part if part in (GAINS, PICTURE) else tables.without_tags(part) for part in parts) + "\n"
