"""Imports torch and lightning without their warnings."""

import logging
import warnings

from distillab.core import distributed


def import_quietly(accelerator: str) -> None:
    """Import torch and lightning, which takes seconds, and connect to the other processes of this run."""
    import lightning.pytorch  # noqa: F401
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only.rank = distributed.rank  # not the number of a Slurm task, of which each may be a run of its own
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*LeafSpec.*",
        ".*in eval mode at the start.*",
        ".*does not have many workers.*",
        ".*litlogger.*",
        ".*exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*is_gradient_checkpointing.*",
    ):
        warnings.filterwarnings("ignore", message)
    distributed.start(accelerator)
