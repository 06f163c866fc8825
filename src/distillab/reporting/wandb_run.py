"""A run in Weights & Biases: how it starts, online or kept on disk, and how it ends; W&B never stops a training."""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from distillab.core.configuration import LoggerConfig
from distillab.core.errors import UserError
from distillab.core.files import replacing, writable
from distillab.core.output import rank_zero_warn

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

MEND = "mend that, or choose logger.mode=offline"
OFFLINE = "this run is kept on disk, and its last line says how to upload it"
PATIENCE = {"init_timeout": 30.0, "finish_timeout": 600.0}  # seconds for W&B's start and its last uploads, unless said


def start(settings: LoggerConfig, run_dir: Path, **about: Any) -> Logger:
    """The logger of a W&B run that has begun: online, or offline where W&B does not answer or refuses the key.

    Raises UserError where it cannot write either.
    """
    from lightning.pytorch.loggers import WandbLogger

    wandb = _silent_wandb()

    about |= {"project": settings.project, "entity": settings.entity, "tags": settings.tags}
    run_dir.mkdir(parents=True, exist_ok=True)  # W&B falls back to a temporary folder where it finds none
    # One W&B run for each folder, however often it is stopped and goes on; a rerun deletes the folder and gets another.
    kept = run_dir / "wandb_run_id"
    if not kept.is_file():
        with replacing(kept) as temporary:
            temporary.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    about |= {"id": kept.read_text(encoding="utf-8"), "resume": "allow"}
    _check_staging(wandb.env.get_data_dir())
    own = {name: seconds for name, seconds in PATIENCE.items() if f"WANDB_{name.upper()}" not in os.environ}
    about["settings"] = wandb.Settings(finish_timeout_raises=True, **own)

    def started(how: str) -> Logger:
        # Not Lightning's `offline=`, which sets WANDB_MODE for every later run of this process.
        logger = WandbLogger(save_dir=run_dir, mode=how, **about)
        # Lightning passes it on even where nobody asked, and W&B prints a warning about it, silent or not.
        vars(logger).get("_wandb_init", {}).pop("anonymous", None)
        logger.experiment  # noqa: B018  (starts the run: a refused key must show before training, not after it)
        return logger

    wanted = mode(settings.mode)
    try:
        return started(wanted)
    except wandb.errors.Error as error:
        if wanted != "online":
            raise UserError(f"W&B cannot start a run ({one_line(error)}): {MEND}") from error
        rank_zero_warn(f"W&B cannot start a run ({one_line(error)}); {OFFLINE}")
    wandb.teardown()  # its own process still holds the id of the run
    return started("offline")


def _silent_wandb() -> Any:
    # W&B reads this once, when it is first used: several lines of banner per run would bury the run's own output.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def _check_staging(data: str) -> None:
    """Raise UserError where W&B could not put the student's file: it would say so after training."""
    place = Path(data, "artifacts", "staging")
    with writable(place, "WANDB_DATA_DIR=… in the environment, or logger=csv"):
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            pass


def mode(wanted: str) -> str:
    """The mode that W&B knows for `logger.mode`; raises UserError for `online` without a key."""
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE") or _by_key()
    # W&B would ask for the key at the terminal, and a sweep would wait for ever.
    if wanted not in ("offline", "dryrun", "disabled") and not has_key():
        raise UserError("W&B has no key to go online: set WANDB_API_KEY, run `wandb login`, or logger.mode=offline")
    return wanted


def _by_key() -> str:
    """Online with a key, offline without one, and with one that cannot be used, which a line says."""
    try:
        return "online" if has_key() else "offline"
    except UserError as error:
        _warn_once(f"{str(error).removesuffix(f': {MEND}')}; {OFFLINE}")
        return "offline"


@cache
def _warn_once(line: str) -> None:
    """The key is looked at before the run is made, and when it is."""
    rank_zero_warn(line)


def has_key() -> bool:
    """Whether W&B can log in by itself: from the environment, its settings, or where `wandb login` keeps keys."""
    wandb = _silent_wandb()
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        raise UserError(f"W&B cannot use its key ({one_line(error)}): {MEND}") from error


def one_line(error: Exception) -> str:
    """What W&B says, which may break lines."""
    return " ".join(str(error).split())


def end(exit_code: int) -> str | None:
    """End the run; its address, or the command that uploads an offline run with its earlier parts."""
    import wandb

    if (run := wandb.run) is None:
        return None
    folder, where = Path(run.dir).parent, run.url
    if not where and run.offline and folder.is_dir():
        several = len(list(folder.parent.glob("offline-run-*"))) > 1
        where = f"wandb sync {folder.parent / 'offline-run-*' if several else folder}"
    try:
        wandb.finish(exit_code=exit_code)
    except (TimeoutError, wandb.errors.Error) as error:  # what is on disk stays there
        rank_zero_warn(f"W&B has not taken everything ({one_line(error)}): wandb sync {folder} uploads the rest")
    return where or None
