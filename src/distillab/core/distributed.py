"""The processes of a run: start and end, barriers, broadcasts."""

import os
from datetime import timedelta
from typing import Any

from distillab.core.errors import UserError
from distillab.core.output import rank as rank  # one of the facts about the processes, for whoever asks here
from distillab.core.output import rank_zero_print

WAIT = timedelta(days=7)  # process 0 may wait for another run, and the others for it; torch's own limit is minutes

world = int(os.environ.get("WORLD_SIZE", "1"))


def start(accelerator: str) -> None:
    """Join the other processes that torchrun started, before the first of them trains."""
    if world == 1:
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    gpu = torch.cuda.is_available() and accelerator != "cpu"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=WAIT)


def stop() -> None:
    """Leave the other processes in order."""
    if world > 1:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if world > 1:
        from torch import distributed

        distributed.barrier()


def broadcast(value: Any) -> Any:
    """The value of process 0, in every process."""
    if world == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def check_shared(batch_size: int, devices: int, key: str) -> None:
    """Raise UserError, which names the override, where the devices would not get the same number of samples each."""
    if batch_size % devices:  # the mean of the devices' gradients would not be the batch's
        nearest = max(round(batch_size / devices), 1) * devices
        raise UserError(f"{key}={batch_size} does not divide among {devices} devices; {key}={nearest} does")


def share(batch_size: int, devices: int, title: str) -> None:
    """Say how many samples of the global batch each device gets."""
    if devices > 1:
        rank_zero_print(f"  {title}  batch {batch_size} = {batch_size // devices} per device on {devices} devices")
