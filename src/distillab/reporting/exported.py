"""The student's files in a table: how good each is, how near to the student, how fast and how large."""

from collections.abc import Sequence
from pathlib import Path

from distillab.core.exports import ExportedFile
from distillab.core.result import Result
from distillab.core.result_parts import Primary
from distillab.reporting.metric_table import count, metric, milliseconds, percent
from distillab.reporting.tables import Table, print_table, terminal


def alike(file: ExportedFile) -> str:
    """How often a file answers as the student does; never rounded up to all."""
    share = 100.0 if file.same_answers == 1 else min(99.99, 100 * file.same_answers)
    return f"{share:.4g} %"


def files_table(files: Sequence[ExportedFile], primary: Primary, title: str = "") -> Table:
    """One row for each file."""
    shown = metric(primary.name, primary.higher_is_better)
    rows = [
        {
            "file": one.file,
            shown.heading: shown.form(one.metrics.get(primary.name)),
            "same answers": alike(one),
            "largest difference of a logit": f"{one.difference:.2g}",
            "latency, one image": f"{milliseconds(one.latency_ms)} ms{'' if one.steady else ' (busy machine)'}",
            "size": f"{count(one.size_bytes)}B",
            "runs with": one.runtime,
        }
        for one in files
    ]
    return Table.of(rows, title)


def show_files(files: Sequence[ExportedFile], primary: Primary, directory: Path, split: str = "test") -> None:
    """Print that table for the files of a folder."""
    print_table(terminal(files_table(files, primary, f"{directory}, proved on {split}")))


def int8_words(result: Result) -> str:
    """The share of the float ONNX file that the 8-bit one has, in a sentence; empty where one of them is missing."""
    sizes = {one.format: one.size_bytes for one in result.exports}
    if not {"onnx", "int8"} <= sizes.keys():
        return ""
    name = result.primary.name
    figures = {one.format: one.metrics.get(name) for one in result.exports}
    lost = metric(name, result.primary.higher_is_better).difference(figures["int8"] - figures["onnx"])
    share = percent(sizes["int8"] / sizes["onnx"], 0)
    return f"The 8-bit file has {share} % of the bytes of the float one, and its accuracy differs by {lost} points."
