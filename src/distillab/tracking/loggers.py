"""The loggers of conf/logger: Weights & Biases, CSV, TensorBoard, or none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.errors import UserError
from distillab.tracking.result import method

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

KINDS = ("wandb", "csv", "tensorboard", "none")
MODES = ("auto", "online", "offline", "disabled")


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
            return _wandb(logger, run_dir, config, name, group)
    raise UserError(f"logger.kind is {kind!r}, allowed are {', '.join(KINDS)}: choose one with logger=<kind>")


def log_summary(logger: Logger | None, result: dict[str, Any]) -> None:
    """Put the result's main numbers flat into the run's summary; W&B also gets the student as an artifact.

    Args:
        logger: from `build`; call this on rank 0.
        result: as `result.json` holds it; the student's weights are `student.safetensors` in the run's folder.
    """
    if logger is None:
        return
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    numbers, names = _summary(result)
    if isinstance(logger, WandbLogger):
        # One row of history holds both axes, so that a chart of top1 over parameters needs no other source.
        logger.log_metrics(numbers)
        logger.experiment.summary.update(numbers | names)
        _log_student(logger, result, numbers | names)
        return
    hyperparameters = result["config"] | names
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


def _summary(result: dict[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers and the names of a result; numbers that it does not have are left out."""
    student = result["student"]
    numbers = {key: student.get(key) for key in ("top1", "parameters", "multiply_adds", "latency_ms")}
    numbers["gain"] = result.get("gain")
    for role in ("teacher", "baseline"):
        numbers[f"{role}_top1"] = (result.get(role) or {}).get("top1")
    names = {"strategy": method(result), "student": student["name"]}
    return {key: value for key, value in numbers.items() if value is not None}, names


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


def _wandb(settings: Mapping[str, Any], run_dir: Path, config: dict[str, Any], name: str, group: str | None) -> Logger:
    # W&B reads this once, when it is first used: several lines of banner per run would bury the run's own output.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    mode = _mode(settings["mode"])
    run_dir.mkdir(parents=True, exist_ok=True)  # W&B falls back to a temporary folder where it finds none
    logger = WandbLogger(
        name=name,
        save_dir=run_dir,
        project=settings["project"],
        entity=settings["entity"],
        tags=list(settings["tags"]),
        group=group,
        config=config,
        # Not Lightning's `offline=`, which sets WANDB_MODE for every later run of this process.
        mode=mode,
    )
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
        wanted = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    # W&B would ask for the key at the terminal, and a sweep would wait for ever.
    if wanted not in ("offline", "dryrun", "disabled") and not _has_key():
        raise UserError(
            "W&B has no key to go online with: set WANDB_API_KEY or run `wandb login`, or logger.mode=offline"
        )
    return wanted


def _has_key() -> bool:
    """Whether W&B can log in by itself: from the environment, its settings, or where `wandb login` keeps keys."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        raise UserError(f"W&B cannot use its key ({_line(error)}): mend that, or choose logger.mode=offline") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _log_student(logger: Logger, result: dict[str, Any], metadata: dict[str, Any]) -> None:
    import wandb

    weights = Path(logger.save_dir) / "student.safetensors"
    if not weights.is_file():
        return
    name = re.sub(r"[^\w.-]", "-", f"{result['student']['name']}-{result['config_hash']}")
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    artifact.add_file(str(weights), name=weights.name)
    logger.experiment.log_artifact(artifact)
