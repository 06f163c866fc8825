"""How many devices a run takes; in a sweep every cell holds its own GPUs by locks, so no two cells share one."""

import getpass
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from distillab.core.allowed import Range
from distillab.core.distributed import check_shared, world
from distillab.core.errors import UserError
from distillab.core.files import writable
from distillab.core.output import rank_zero_print

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig, TrainerConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPU = ("auto", "gpu", "cuda")  # accelerators that may be one

_own: list[str] = []  # this process's GPUs: where CUDA has started, it cannot change to others


def number_of_devices(trainer: "TrainerConfig") -> int:
    """How many devices of this machine a run asks for; `auto` and -1 are all GPUs. Raises UserError."""
    devices, on_gpus = trainer.devices, trainer.accelerator in GPU
    if devices in ("auto", -1, "-1"):
        devices = max(1, len(visible_devices())) if on_gpus else 1
    if not Range(1, whole=True).allows(devices):
        allowed = "a whole number from 1, or auto for all GPUs"
        raise UserError(f"trainer.devices must be {allowed}, got {devices}; {VISIBLE}=… chooses which")
    if devices > 1 and not trainer.strategy.startswith("ddp"):
        several = f"trainer.devices={trainer.devices} means {devices} devices"
        mend = f"trainer=ddp trainer.devices={devices}, or trainer.devices=1"
        raise UserError(f"{several}, and trainer.strategy={trainer.strategy} takes one: {mend}")
    if devices > 1 and (gpus := len(visible_devices()) if on_gpus else 0):
        _check_enough(devices, gpus)
    elif devices > 1 and trainer.sync_batchnorm:
        raise UserError("trainer.sync_batchnorm=true runs on GPUs alone, as torch has it: trainer.sync_batchnorm=false")
    if trainer.num_nodes > 1 and world == 1:
        how = "start the same command on every machine through torchrun, docs/scale.md says how"
        raise UserError(f"trainer.num_nodes={trainer.num_nodes}: {how}, or set trainer.num_nodes=1")
    return devices


def check(config: "RunConfig", count: int) -> None:
    """Raise UserError for what would fail on the devices of a run, before its processes start."""
    trainer, several = config.trainer, count * config.trainer.num_nodes
    instead = "trainer.accelerator=auto takes what there is, trainer=cpu the CPU"
    if trainer.accelerator in ("gpu", "cuda") and not _gpus() and not (trainer.accelerator == "gpu" and _metal()):
        raise UserError(f"trainer.accelerator={trainer.accelerator}, and torch finds no GPU here; {instead}")
    if trainer.accelerator == "mps" and not _metal():
        raise UserError(f"trainer.accelerator=mps, and torch finds no Apple GPU here; {instead}")
    check_shared(config.recipe.batch_size, several, "recipe.batch_size")
    if config.teacher.recipe is not None and config.teacher.checkpoint is None:
        check_shared(config.teacher.recipe.batch_size, several, "teacher.recipe.batch_size")


def _gpus() -> int:
    from torch import cuda

    return cuda.device_count()  # asks the driver's own library, not CUDA


def _metal() -> bool:
    from torch.backends import mps

    return mps.is_available()


def _check_enough(wanted: int, there: int) -> None:
    if there < wanted:
        raise UserError(f"trainer.devices={wanted}, and there are {there} GPUs; trainer.devices={there}")


def devices_of_a_cell(trainer: "TrainerConfig", several: bool) -> Any:
    """A context in which a cell has its GPUs to itself, as far as `several` processes run the sweep's cells."""
    if not several or world > 1 or trainer.accelerator not in GPU:
        return nullcontext()
    ids, count = visible_devices(), trainer.devices
    # A Slurm job has been given its own, and their numbers begin at 0 in every job.
    given = os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and len(ids) == count
    if not _own and (len(ids) < 2 or given):
        return nullcontext()
    # All sweeps of one person on this machine share the GPUs, wherever their results lie.
    return hold_devices(ids, Path(tempfile.gettempdir()) / f"distillab-devices-{getpass.getuser()}", count)


def visible_devices() -> list[str]:
    """The GPUs that this process may use, by number or UUID; CUDA is not started."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [word.strip() for word in named.split(",") if word.strip() not in ("", "-1")]
    return [str(number) for number in range(_gpus())]


@contextmanager
def hold_devices(ids: Sequence[str], folder: Path, count: int = 1, pause: float = 0.5) -> Iterator[list[str]]:
    """Hold `count` devices, let this process see no others, and yield their ids; waits until so many are free at once.

    The operating system drops the locks of a process that died. A process that held devices before takes the same ones.
    `ids` are as CUDA_VISIBLE_DEVICES names them; `folder` keeps the locks; `pause` is in seconds, between two looks.
    Raises UserError where there are fewer devices, or the folder cannot be written to.
    """
    wanted = _own or list(ids)
    _check_enough(count, len(wanted))
    with writable(folder, "TMPDIR=…"):
        folder.mkdir(parents=True, exist_ok=True)
        held = _when_free(wanted, folder, count, pause)
    _own[:] = held
    os.environ[VISIBLE] = ",".join(held)
    try:
        yield list(held)
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what torch keeps unused, for the process that holds the device next
        for lock in held.values():
            lock.release()


def _when_free(ids: Sequence[str], folder: Path, count: int, pause: float) -> dict[str, FileLock]:
    """The first `count` devices that no other process holds, by id, with their locks, which are now held."""
    told = False
    while True:
        free: dict[str, FileLock] = {}
        # One process looks at a time: two that want two of two devices could otherwise take one each, for ever.
        with FileLock(folder / "looking.lock"):
            for one in ids:
                lock = FileLock(folder / f"{one.replace('/', '-')}.lock")
                with suppress(Timeout):
                    if len(free) < count:
                        lock.acquire(timeout=0)
                        free[one] = lock
            if len(free) == count:
                return free
            for lock in free.values():  # given back before the next one looks, which would take them for held
                lock.release()
        if not told:
            wanted = "a GPU" if count == 1 else f"{count} GPUs"
            rank_zero_print(f"waiting for {wanted}: other runs hold {', '.join(one for one in ids if one not in free)}")
        told = True
        time.sleep(pause)
