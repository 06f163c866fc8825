"""The loggers of conf/logger: Weights & Biases, CSV, TensorBoard, MLflow, or none; how a run starts, what is kept of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.configuration import LoggerConfig
from distillab.core.errors import UserError
from distillab.core.files import replacing
from distillab.core.result import REFERENCES, Result
from distillab.reporting import wandb_run
from distillab.reporting.looks import ALONE, TEACHER
from distillab.reporting.metric_table import metric

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

DEPLOYED = ("parameters", "multiply_adds", "latency_ms", "size_bytes", "throughput")
SCATTER = "accuracy_against_parameters"


def check(settings: LoggerConfig) -> None:
    """Raise UserError, before anything is trained or written, without the package or the W&B key that is needed."""
    kind = settings.kind
    if kind in ("tensorboard", "mlflow") and not _installed(kind):
        how = f"run `uv sync --extra {kind}` (or pip install 'distillab[{kind}]'), or choose logger=csv"
        raise UserError(f"logger={kind} needs {kind}, which is not installed: {how}")
    if kind == "wandb":
        wandb_run.mode(settings.mode)


def _installed(package: str) -> bool:
    """Whether the package itself is there: Lightning takes no smaller one, such as mlflow-skinny."""
    with suppress(PackageNotFoundError):
        return bool(distribution(package))
    return False


def build(
    settings: LoggerConfig, run_dir: Path, config: dict[str, Any], name: str, *, group: str | None = None
) -> Logger | None:
    """The Lightning logger of these settings, its own files below `run_dir`; it goes on with the run that began there.

    `config` is the resolved config in plain Python; `group` is what a sweep's runs have in common, for W&B only. MLflow
    keeps the runs of all folders in one file beside them, unless a server is named. Raises UserError as `check`, and
    where MLflow cannot start; where W&B cannot go online, the run is kept offline.
    """
    check(settings)
    if settings.kind == "wandb":
        return wandb_run.start(settings, run_dir, config=config, name=name, group=group)
    if settings.kind == "none":
        return None
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    if settings.kind == "csv":
        return CSVLogger(run_dir, name="csv")
    if settings.kind == "mlflow":
        return _mlflow(settings, run_dir, name)
    # The summary is the only hyperparameter metric; Lightning's own placeholder `hp_metric` would stand beside it.
    return TensorBoardLogger(run_dir, name="tensorboard", default_hp_metric=False)


def _mlflow(settings: LoggerConfig, run_dir: Path, name: str) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run_dir.parents[1]}/mlflow.db"
    kept = run_dir / "mlflow_run_id"
    about = {"experiment_name": settings.project or "distillab", "run_name": name, "tracking_uri": uri}
    about["run_id"] = kept.read_text(encoding="utf-8") if kept.is_file() else None
    try:
        logger = MLFlowLogger(tags=dict.fromkeys(settings.tags, "true"), **about)
        with replacing(kept) as temporary:
            temporary.write_text(logger.run_id, encoding="utf-8")  # a server that does not answer shows here
    except Exception as error:  # MLflow's own, those of its server's protocol, and of its data base
        mend = "mend that, name another server with logger.uri=…, or choose logger=csv"
        raise UserError(f"MLflow cannot start a run ({wandb_run.one_line(error)}): {mend}") from error
    return logger


def log_summary(logger: Logger | None, result: Result, siblings: Sequence[Result] = ()) -> None:
    """Put the result's main figures flat into the run's summary; W&B also gets pictures, a scatter and the student.

    Call it on rank 0, when the run's files are written. `siblings` are the results of the same sweep so far, for the
    scatter, which leaves out those of other data or another protocol.
    """
    if logger is None:
        return
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    numbers, labels = summary(result)
    if isinstance(logger, WandbLogger):
        import wandb

        run, folder = logger.experiment, Path(logger.save_dir)
        drawn = folder / "limits.png", folder.parent.parent / "accuracy_vs_parameters.png"
        pictures = {f"plots/{path.stem}": wandb.Image(str(path)) for path in drawn if path.is_file()}
        # One row of history holds both axes, so that a chart of the primary figure over parameters needs no other source.
        run.log({**numbers, **pictures, SCATTER: _scatter(result, siblings)})
        run.summary.update({**numbers, **labels})
        # Charts group runs by the config only, and there `strategy` and `student` are whole groups.
        run.config.update({"labels": labels}, allow_val_change=True)
        _log_student(run, folder, result, {**numbers, **labels})
        return
    hyperparameters = result.config | {"labels": labels}
    if isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(hyperparameters, numbers)
    else:
        logger.log_hyperparams(hyperparameters)
        logger.log_metrics(numbers)
    logger.save()


def _scatter(result: Result, siblings: Sequence[Result]) -> Any:
    """A chart of the primary figure against parameters: the students of the sweep so far, alone too, and the teachers."""
    import wandb

    shown = metric(result.primary.name)
    column = f"{result.primary.name}_{'percent' if shown.unit == '%' else shown.unit}".rstrip("_")
    data, protocol = result.data.name, result.protocol
    place = data, result.data.fingerprint, protocol
    all_ = ((one, (one.data.name, one.data.fingerprint, one.protocol)) for one in (*siblings, result))
    kept = {other.config_hash: other for other, where in all_ if where == place}
    rows = {}  # runs share teachers and baselines: each is one point
    for other in kept.values():
        series = {"teacher": TEACHER, **REFERENCES, "student": ALONE if other.alone else other.method}
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


def finish(logger: Logger | None, exit_code: int = 0) -> str | None:
    """End the W&B run, or the next one in this process would go on with it, or the MLflow run; else do nothing.

    Returns the run's address, or the command that uploads an offline run with its earlier parts; None without W&B.
    """
    if type(logger).__name__ == "MLFlowLogger":
        logger.finalize("failed" if exit_code else "success")
    return wandb_run.end(exit_code) if type(logger).__name__ == "WandbLogger" else None


def summary(result: Result) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of a result by flat key, and the labels that say what was run; what it does not have is left out."""
    student, primary = result.student, result.primary
    watched, best = f"val/{primary.name}", max if primary.higher_is_better else min
    validation = [epoch[watched] for epoch in student.training.curves if epoch.get(watched) is not None]
    numbers = student.metrics | {key: student.figure(key) for key in (*DEPLOYED, "agreement")}
    numbers |= {
        "gain": result.gain,
        "gap_closed": result.gap_closed,
        f"teacher_{primary.name}": result.score("teacher"),
        f"baseline_{primary.name}": result.score("baseline"),
        f"random_{primary.name}": result.score("random"),
        f"{watched}_best": best(validation, default=student.validation.get(primary.name)),
    }
    labels = {
        "strategy": result.method,
        "student": student.name,
        "teacher": result.teacher and result.teacher.name,
        "scheme": result.scheme,
        "data": result.data.name,
        "protocol": result.protocol,
        "seed": result.seeds.get("seed"),
    }
    return tuple({key: value for key, value in each.items() if value is not None} for each in (numbers, labels))
