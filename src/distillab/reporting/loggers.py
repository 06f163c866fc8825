"""The loggers of conf/logger: Weights & Biases, CSV, TensorBoard, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError
from distillab.core.result import method
from distillab.reporting import wandb_run

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

KINDS = ("wandb", "csv", "tensorboard", "none")
OF_THE_STUDENT = (
    *("top1", "top1_best", "top1_last", "top5", "nll", "brier", "calibration_error", "balanced_accuracy", "macro_f1"),
    *("parameters", "multiply_adds", "latency_ms", "size_bytes", "throughput"),
)


def build(
    logger: Mapping[str, Any] | None, run_dir: Path, config: dict[str, Any], name: str, group: str | None = None
) -> Logger | None:
    """The Lightning logger that a file of conf/logger describes, its own files below `run_dir`.

    Args:
        logger: `kind`, and for W&B `project`, `entity`, `mode`, `tags`; None is no logger.
        run_dir: the run's folder, where `log_summary` finds `student.safetensors`.
        config: the resolved config, plain Python.
        name: the run's name to show.
        group: what a sweep's runs have in common; W&B only.

    Raises:
        UserError: unknown kind or mode, no W&B key where it was told to be online, W&B cannot start, no tensorboard.
    """
    kind = "none" if logger is None else logger.get("kind")
    match kind:
        case "none":
            return None
        case "csv":
            from lightning.pytorch.loggers import CSVLogger

            return CSVLogger(run_dir, name="csv")
        case "tensorboard":
            return _tensorboard(run_dir)
        case "wandb":
            return wandb_run.start(logger, run_dir, config, name, group)
    raise UserError(f"logger.kind is {kind!r}, allowed are {', '.join(KINDS)}: choose one with logger=<kind>")


def log_summary(logger: Logger | None, result: dict[str, Any], siblings: Sequence[dict[str, Any]] = ()) -> None:
    """Put the result's main figures flat into the run's summary; W&B also gets pictures, a scatter and the student.

    Args:
        logger: from `build`; call this on rank 0, when the run's files are written.
        result: as `result.json` holds it. What W&B gets of the run's folder, where it is there: `student.safetensors`,
            `result.json`, `README.md`, `limits.png`, and the plot over all runs two folders up.
        siblings: the results of the same sweep so far, for the scatter; those of other data or another protocol are
            left out of it.
    """
    if logger is None:
        return
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    numbers, labels = summary(result)
    if isinstance(logger, WandbLogger):
        wandb_run.log(logger, result, siblings, numbers, labels)
        return
    hyperparameters = result["config"] | {"labels": labels}
    if isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(hyperparameters, numbers)
    else:
        logger.log_hyperparams(hyperparameters)
        logger.log_metrics(numbers)
    logger.save()


def finish(logger: Logger | None, exit_code: int = 0) -> str | None:
    """End the W&B run, or the next one in this process would go on with it; with any other logger do nothing.

    Returns:
        Where the run can be seen: its address, or the command that uploads an offline run. None without W&B.
    """
    if logger is None or type(logger).__name__ != "WandbLogger":
        return None
    import wandb

    run = wandb.run
    if run is None:
        return None
    folder = Path(run.dir).parent
    where = run.url or (f"wandb sync {folder}" if run.offline and folder.is_dir() else None)
    wandb.finish(exit_code=exit_code)
    return where


def summary(result: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of a result by flat key, and the labels that say what was run; what it does not have is left out.

    Returns:
        Figures, accuracies from 0 to 1; labels, the seed among them.
    """
    student, teacher, baseline = (result.get(role) or {} for role in ("student", "teacher", "baseline"))
    validation = [row["val/top1"] for row in student.get("curves") or [] if row.get("val/top1") is not None]
    numbers = {key: student.get(key) for key in OF_THE_STUDENT} | {
        "gain": result.get("gain"),
        "gap_closed": result.get("gap_closed"),
        "agreement": (student.get("against_teacher") or {}).get("agreement"),
        "teacher_top1": teacher.get("top1"),
        "baseline_top1": baseline.get("top1"),
        "val/top1_best": max(validation, default=student.get("top1_validation")),
    }
    labels = {
        "strategy": method(result),
        "student": student["name"],
        "teacher": teacher.get("name"),
        "scheme": result.get("scheme", "offline"),
        "data": result["data"]["name"],
        "protocol": result["protocol"],
        "seed": result["seeds"].get("seed"),
    }
    return _known(numbers), _known(labels)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _tensorboard(run_dir: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        # The summary is the only hyperparameter metric; Lightning's own placeholder `hp_metric` would stand beside it.
        return TensorBoardLogger(run_dir, name="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError:
        raise UserError(
            "logger=tensorboard needs tensorboard, which is not installed: run `uv sync --extra tensorboard` "
            "(or pip install 'distillab[tensorboard]'), or choose logger=csv"
        ) from None
