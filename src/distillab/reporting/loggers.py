"""The loggers of conf/logger: Weights & Biases, CSV, TensorBoard, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError
from distillab.core.result import Result
from distillab.reporting import wandb_run

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

KINDS = ("wandb", "csv", "tensorboard", "none")
DEPLOYED = ("parameters", "multiply_adds", "latency_ms", "size_bytes", "throughput")


def build(
    logger: Mapping[str, Any] | None, run_dir: Path, config: dict[str, Any], name: str, *, group: str | None = None
) -> Logger | None:
    """The Lightning logger that a file of conf/logger describes, its own files below `run_dir`.

    Args:
        logger: `kind`, and for W&B `project`, `entity`, `mode`, `tags`; None is no logger.
        config: the resolved config, plain Python.
        group: what a sweep's runs have in common; W&B only.

    Raises:
        UserError: unknown kind or mode, no W&B key where it was told to be online, W&B cannot start, no tensorboard.
    """
    kind = "none" if logger is None else logger.get("kind")
    if kind == "none":
        return None
    if kind == "csv":
        from lightning.pytorch.loggers import CSVLogger

        return CSVLogger(run_dir, name="csv")
    if kind == "tensorboard":
        return _tensorboard(run_dir)
    if kind == "wandb":
        return wandb_run.start(logger, run_dir, config, name=name, group=group)
    raise UserError(f"logger.kind is {kind!r}, allowed are {', '.join(KINDS)}: choose one with logger=<kind>")


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
        wandb_run.log(logger, result, siblings, numbers=numbers, labels=labels)
        return
    hyperparameters = result.config | {"labels": labels}
    if isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(hyperparameters, numbers)
    else:
        logger.log_hyperparams(hyperparameters)
        logger.log_metrics(numbers)
    logger.save()


def finish(logger: Logger | None, exit_code: int = 0) -> str | None:
    """End the W&B run, or the next one in this process would go on with it; with any other logger do nothing.

    Returns:
        The run's address, or the command that uploads an offline run; None without W&B.
    """
    if type(logger).__name__ != "WandbLogger":
        return None
    import wandb

    run = wandb.run
    if run is None:
        return None
    folder = Path(run.dir).parent
    where = run.url or (f"wandb sync {folder}" if run.offline and folder.is_dir() else None)
    wandb.finish(exit_code=exit_code)
    return where


def summary(result: Result) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of a result by flat key, and the labels that say what was run; what it does not have is left out."""
    student, primary = result.student, result.primary
    watched, best = f"val/{primary.name}", max if primary.higher_is_better else min
    validation = [epoch[watched] for epoch in student.training.curves if epoch.get(watched) is not None]
    numbers = student.metrics | {key: student.figure(key) for key in DEPLOYED}
    numbers |= {
        "gain": result.gain,
        "gap_closed": result.gap_closed,
        "agreement": student.figure("agreement"),
        f"teacher_{primary.name}": result.score("teacher"),
        f"baseline_{primary.name}": result.score("baseline"),
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
