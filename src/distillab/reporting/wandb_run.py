"""A run in Weights & Biases: how it starts, and what it is given when it has ended."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError
from distillab.core.result import Result
from distillab.reporting.looks import ALONE, TEACHER
from distillab.reporting.metric_table import metric

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

MODES = ("auto", "online", "offline", "disabled")
SCATTER = "accuracy_against_parameters"
Figures = Mapping[str, Any]


def start(settings: Figures, run_dir: Path, config: dict[str, Any], *, name: str, group: str | None) -> Logger:
    """Start a run and return Lightning's logger of it; the arguments are those of `loggers.build`.

    Raises:
        UserError: unknown mode, no key where it was told to be online, W&B cannot start.
    """
    # W&B reads this once, when it is first used: several lines of banner per run would bury the run's own output.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    mode = _mode(settings["mode"])
    run_dir.mkdir(parents=True, exist_ok=True)  # W&B falls back to a temporary folder where it finds none
    about = {"project": settings["project"], "entity": settings["entity"], "tags": list(settings["tags"])}
    # Not Lightning's `offline=`, which sets WANDB_MODE for every later run of this process.
    logger = WandbLogger(name=name, save_dir=run_dir, group=group, config=config, mode=mode, **about)
    # Lightning passes it on even where nobody asked, and W&B prints a warning about it, silent or not.
    vars(logger).get("_wandb_init", {}).pop("anonymous", None)
    try:
        logger.experiment  # noqa: B018  (starts the run: a refused key must show before training, not after it)
    except wandb.errors.Error as error:
        raise UserError(f"W&B cannot start a run ({_line(error)}): mend that, or choose logger.mode=offline") from error
    return logger


def _mode(wanted: str) -> str:
    if wanted not in MODES:
        raise UserError(f"logger.mode is {wanted!r}, allowed are {', '.join(MODES)}: for example logger.mode=auto")
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    # W&B would ask for the key at the terminal, and a sweep would wait for ever.
    if wanted not in ("offline", "dryrun", "disabled") and not has_key():
        raise UserError("W&B has no key to go online: set WANDB_API_KEY, run `wandb login`, or logger.mode=offline")
    return wanted


def has_key() -> bool:
    """Whether W&B can log in by itself: from the environment, its settings, or where `wandb login` keeps keys."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        raise UserError(f"W&B cannot use its key ({_line(error)}): mend that, or choose logger.mode=offline") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def log(logger: Logger, result: Result, siblings: Sequence[Result], *, numbers: Figures, labels: Figures) -> None:
    """What a finished run adds to its curves: summary, labels, pictures, the scatter over its sweep, the student."""
    run, folder = logger.experiment, Path(logger.save_dir)
    # One row of history holds both axes, so that a chart of the primary figure over parameters needs no other source.
    run.log({**numbers, **_pictures(folder), SCATTER: _scatter(result, siblings)})
    run.summary.update({**numbers, **labels})
    # Charts group runs by the config only, and there `strategy` and `student` are whole groups.
    run.config.update({"labels": dict(labels)}, allow_val_change=True)
    _log_student(run, folder, result, {**numbers, **labels})


def _pictures(folder: Path) -> dict[str, Any]:
    """The pictures of the run and of all runs so far, as far as they were drawn."""
    import wandb

    paths = folder / "limits.png", folder.parent.parent / "accuracy_vs_parameters.png"
    return {f"plots/{path.stem}": wandb.Image(str(path)) for path in paths if path.is_file()}


def _scatter(result: Result, siblings: Sequence[Result]) -> Any:
    """A chart of the primary figure against parameters: the students of the sweep so far, alone too, and the teachers."""
    import wandb

    shown = metric(result.primary.name)
    column = f"{result.primary.name}_{'percent' if shown.unit == '%' else shown.unit}".rstrip("_")
    data, protocol = place = result.data.name, result.protocol
    kept = {other.config_hash: other for other in (*siblings, result) if (other.data.name, other.protocol) == place}
    rows = {}  # runs share teachers and baselines: each is one point
    for other in kept.values():
        series = {"teacher": TEACHER, "baseline": ALONE, "student": ALONE if other.alone else other.method}
        for role, entry in other.entries.items():
            seed, score = other.seeds.get("teacher" if role == "teacher" else "seed"), shown.scale * other.score(role)
            rows[series[role], entry.name, entry.efficiency.parameters, round(score, 4), seed] = None
    table = wandb.Table(columns=["strategy", "model", "parameters", column, "seed"], data=[list(row) for row in rows])
    title = f"{data}, protocol {protocol}: {shown.heading} against parameters"
    return wandb.plot.scatter(table, "parameters", column, title=title)


def _log_student(run: Any, folder: Path, result: Result, metadata: dict[str, Any]) -> None:
    """The student as a model artifact: its weights, its result and its model card."""
    import wandb

    if not (folder / "student.safetensors").is_file():
        return
    name = re.sub(r"[^\w.-]", "-", f"{result.student.name}-{result.config_hash}")
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    for path in (folder / file for file in ("student.safetensors", "result.json", "README.md")):
        if path.is_file():
            artifact.add_file(str(path), name=path.name)
    run.log_artifact(artifact)
