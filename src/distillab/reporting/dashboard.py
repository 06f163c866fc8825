"""The project's W&B workspace and report, over the keys that every run logs."""

import json
import os
import sys
from argparse import ArgumentParser
from typing import Any

from distillab.core.errors import UserError
from distillab.reporting.loggers import DEPLOYED
from distillab.reporting.wandb_run import has_key, one_line

TOP1, TOP1_ALONE = "top1", "baseline_top1"
COLUMNS = ("strategy", "student", "teacher", "scheme", "seed", TOP1, TOP1_ALONE, f"teacher_{TOP1}")
COLUMNS += ("gain", "gap_closed", "agreement", "calibration_error", *DEPLOYED)
BY_METHOD, BY_STUDENT = "labels.strategy", "labels.student"  # in the config; the seeds of a pair fall together
MOST_RUNS = 100

EXPLAINED = (
    "Every run is one student with one method and one seed, beside the same student, seed and schedule trained without "
    "a teacher. Accuracies are shares of one; gain is top1 minus baseline_top1, or minus "
    "random_top1 where a head was fitted to labels afterwards. Bars and curves are means over "
    "all runs of a method, students and seeds together, with one standard deviation; the table groups by student and "
    "method, and the report of a sweep tests the difference."
)


def workspace(project: str, entity: str, data: str, protocol: str) -> Any:
    """A `Workspace` of one data set and protocol by their names: nothing in it ranks numbers that do not compare.

    The entity may be empty as long as it is not saved. Raises UserError where wandb-workspaces is not installed.
    """
    wr, ws, expr = _libraries()
    sections = [ws.Section(name=title, panels=shown, is_open=True) for title, (_, shown) in panels(wr).items()]
    settings = ws.RunsetSettings(
        filters=_filters(expr, data, protocol),
        groupby=[expr.Config(BY_STUDENT), expr.Config(BY_METHOD)],
        order=[expr.Ordering(expr.Summary(TOP1), ascending=False)],
        pinned_columns=[f"summary:{key}" for key in COLUMNS],
    )
    name = _title(data, protocol)
    return ws.Workspace(entity=entity, project=project, name=name, sections=sections, runset_settings=settings)


def report(project: str, entity: str, data: str, protocol: str) -> Any:
    """The same panels as a W&B `Report`, each group with a sentence, and the table of runs last."""
    wr, _, expr = _libraries()

    def runs(name: str, groupby: tuple[str, ...] = ()) -> Any:
        return wr.Runset(
            name=name,
            filters=_filters(expr, data, protocol),
            groupby=[f"config.{key}" for key in groupby],
            order=[wr.OrderBy(wr.SummaryMetric(TOP1))],
            pinned_columns=[f"summary:{key}" for key in COLUMNS],
        )

    blocks = [wr.P(EXPLAINED)]
    for title, (words, shown) in panels(wr).items():
        blocks += [wr.H2(title), wr.P(words), wr.PanelGrid(runsets=[runs("runs")], panels=shown)]
    table = wr.PanelGrid(runsets=[runs("seeds grouped", (BY_STUDENT, BY_METHOD)), runs("all runs")])
    blocks += [wr.H2("Runs"), wr.P("Grouped by student and method; the second tab lists every seed."), table]
    about = {"title": _title(data, protocol), "description": EXPLAINED, "width": "fluid"}
    return wr.Report(project=project, entity=entity, blocks=blocks, **about)


def panels(wr: Any) -> dict[str, tuple[str, list[Any]]]:
    """Title of each group of panels → what it shows, in a sentence, and the panels."""
    top1, alone = wr.SummaryMetric(TOP1), wr.SummaryMetric(TOP1_ALONE)
    wide = wr.Layout(0, 0, 24, 10)

    def against(key: str, words: str, place: Any) -> Any:
        return wr.ScatterPlot(title=f"Top-1 against {words}", x=wr.SummaryMetric(key), y=top1, log_x=True, layout=place)

    def grouped(kind: Any, title: str, groupby: str, place: tuple[int, int], **shown: Any) -> Any:
        spread = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": MOST_RUNS}
        return kind(title=title, groupby=wr.Config(groupby), layout=wr.Layout(*place, 12, 8), **spread, **shown)

    sizes = [
        against("parameters", "parameters", wide),
        against("multiply_adds", "multiply-adds", wr.Layout(0, 10, 12, 8)),
        against("latency_ms", "latency of one image, ms", wr.Layout(12, 10, 12, 8)),
    ]
    gain, agreement = (wr.SummaryMetric(key) for key in ("gain", "agreement"))
    methods = [
        grouped(wr.BarPlot, "Gain over the student alone", BY_METHOD, (0, 0), metrics=[gain]),
        grouped(wr.BarPlot, "Top-1: distilled and alone", BY_METHOD, (12, 0), metrics=[top1, alone]),
        grouped(wr.BarPlot, "Agreement with the teacher", BY_METHOD, (0, 8), metrics=[agreement]),
        grouped(wr.BarPlot, "Top-1 by student", BY_STUDENT, (12, 8), metrics=[top1, alone]),
    ]
    curves = [
        grouped(wr.LinePlot, "Accuracy by epoch", BY_METHOD, (0, 0), x="epoch", y=[f"val/{TOP1}"]),
        grouped(wr.LinePlot, "Training loss by epoch", BY_METHOD, (12, 0), x="epoch", y=["train/loss"]),
    ]
    pictures = wr.MediaBrowser(media_keys=["plots/limits", "plots/accuracy_vs_parameters"], num_columns=2, layout=wide)
    return {
        "Accuracy against size": ("One point per run, on a logarithmic axis. Up and to the left is better.", sizes),
        "Methods compared": (
            "Means over the students and seeds of each method; the bar's range is one standard deviation.",
            methods,
        ),
        "Learning curves": (
            "Validation accuracy (or, under the protocol of papers, test accuracy) and training loss of each method.",
            curves,
        ),
        "Pictures": (
            "Where the teacher's weakness is passed on, and the plot over all runs as it stood when each run ended.",
            [pictures],
        ),
    }


def specification(project: str, entity: str, data: str, protocol: str) -> dict[str, Any]:
    """Workspace and report as W&B stores them, in plain Python; made without the network."""
    models = {make.__name__: make(project, entity, data, protocol)._to_model() for make in (workspace, report)}
    return {kind: json.loads(made.model_dump_json(by_alias=True, exclude_none=True)) for kind, made in models.items()}


def save(project: str, entity: str, data: str, protocol: str) -> list[str]:
    """Save both to W&B; returns their addresses, raises UserError if W&B refuses."""
    import wandb

    try:
        entity = entity or wandb.Api().default_entity
        return [make(project, entity, data, protocol).save().url for make in (workspace, report)]
    except Exception as error:  # wandb and wandb-workspaces have no common exception for what the server says
        mend = "check --entity and --project, or use --offline"
        raise UserError(f"W&B did not take the dashboard ({one_line(error)}): {mend}") from error


def main(arguments: list[str] | None = None) -> None:
    """`python scripts/dashboard.py --project distillab [--entity NAME] [--data NAME] [--protocol NAME] [--offline]`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--project", default="distillab", help="as logger.project (default: distillab)")
    parser.add_argument("--entity", default="", help="user or team (default: your own)")
    parser.add_argument("--data", default="digits", help="the data set whose runs are shown (default: digits)")
    parser.add_argument("--protocol", default="standard", help="standard or paper, never both (default: standard)")
    parser.add_argument("--offline", action="store_true", help="print the whole specification, without the network")
    options = parser.parse_args(arguments)
    chosen = options.project, options.entity, options.data, options.protocol
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        if options.offline or os.environ.get("WANDB_MODE") in ("offline", "disabled") or not has_key():
            print(json.dumps(specification(*chosen), indent=2, ensure_ascii=False))
        else:
            print("\n".join(save(*chosen)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _title(data: str, protocol: str) -> str:
    return f"Distillation on {data}, protocol {protocol}"


def _filters(expr: Any, data: str, protocol: str) -> list[Any]:
    return [expr.Summary("data") == data, expr.Summary("protocol") == protocol]


def _libraries() -> tuple[Any, Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr
    except ModuleNotFoundError:
        raise UserError(
            "the dashboard needs wandb-workspaces, which is not installed: run `uv sync --extra dashboard` "
            "(or pip install 'distillab[dashboard]')"
        ) from None
    return wr, ws, expr
