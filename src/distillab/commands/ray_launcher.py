"""Hydra's launcher for Ray: each cell of a sweep is a task of a Ray cluster, or of a Ray of this machine's own.

hydra-ray-launcher is not used: it pins cloudpickle below 3 and takes an interface to AWS along.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from distillab.commands.composition import RAY
from distillab.core import stopping
from distillab.core.allowed import Range
from distillab.core.errors import UserError, reason
from distillab.core.output import rank_zero_print


@dataclass(frozen=True)
class Job:
    """One cell, as it is sent to the process that runs it."""

    number: int
    overrides: Sequence[str]
    context: HydraContext
    config: DictConfig
    work: TaskFunction
    singletons: dict[Any, Any]  # Hydra's own, of the process that sends it

    def run(self) -> JobReturn:
        """Do the work, with the cell's own config; what it returns or raises is in the answer."""
        setup_globals()
        Singleton.set_state(self.singletons)
        config = self.context.config_loader.load_sweep_config(self.config, list(self.overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{self.number}", self.number
        HydraConfig.instance().set_config(config)
        places = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        return run_job(self.work, config, hydra_context=self.context, **places)


class Ray(Launcher):
    """Runs cells as Ray's tasks, each with `cpus` cores and `gpus` GPUs, which may be parts of one.

    `address` is that of a cluster, `auto` the one that this machine belongs to; without one Ray starts here, and ends with
    the sweep. Raises UserError for numbers that no task can have, and where Ray is not installed or not reached.
    """

    def __init__(self, cpus: float = 1, gpus: float = 0, address: str | None = None) -> None:
        Range(above=0).check(cpus, "hydra.launcher.cpus", 1)
        Range(0).check(gpus, "hydra.launcher.gpus", 0)
        self.resources, self.address = {"num_cpus": cpus, "num_gpus": gpus}, address

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what every cell needs."""
        self.context, self.work, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all cells, as many at once as there is room for; what they return, in their order."""
        try:
            import ray
        except ImportError as error:
            raise UserError('launcher=ray: ray is not installed: pip install "distillab[ray]"') from error
        setup_globals()
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        try:
            ray.init(self.address, include_dashboard=False, ignore_reinit_error=True, logging_level="ERROR")
        except Exception as error:  # of many kinds, plain ones too
            told = f"hydra.launcher.address={self.address}: Ray is not reached there ({reason(error)})"
            raise UserError(f"{told}; null starts one on this machine") from error
        try:
            self._check_room(ray.cluster_resources())
            task = ray.remote(max_retries=0, **self.resources)(_cell)
            state = Singleton.get_state()
            jobs = [
                Job(initial_job_idx + place, list(overrides), self.context, self.config, self.work, state)
                for place, overrides in enumerate(job_overrides)
            ]
            rank_zero_print(f"Ray runs {len(jobs)} cells")
            return ray.get([task.remote(job) for job in jobs])
        finally:
            ray.shutdown()

    def _check_room(self, there: dict[str, float]) -> None:
        """Raise UserError where no cell would ever begin."""
        for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            if self.resources[name] > there.get(key, 0):
                own = f"hydra.launcher.{name.removeprefix('num_')}"
                raise UserError(
                    f"{own}={self.resources[name]:g}, and Ray has {there.get(key, 0):g} of them in all: ask for no more"
                )


def _cell(job: Job) -> JobReturn:
    stopping.in_ray.append(True)
    return job.run()


def register() -> None:
    """Let Hydra find the launcher under the name that the config gives it; call before a sweep begins."""
    Plugins.instance().class_name_to_class[RAY] = Ray
