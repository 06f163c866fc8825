"""The command: composes the config, runs the experiment, and says in one line what is wrong with the input."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import distillab
from distillab.commands import devices, ray_launcher, tune
from distillab.commands.composition import (
    PRIMARY,
    conf_dir,
    strategy_conflicts,
    strategy_label,
)
from distillab.commands.error_line import TRACEBACK, one_line
from distillab.commands.explain import asked_about, explain
from distillab.commands.invocation import Invocation, finished, parse
from distillab.commands.own_files import check_own_files
from distillab.commands.sweep import COMMAND, Cell, about, command, failures
from distillab.commands.words import understood
from distillab.core import distributed, output, stopping
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import config_folder, method_name, own_folder
from distillab.core.stopping import Stopped, listen, stop

if TYPE_CHECKING:
    from distillab.core.result import Result

WANTS_TRACEBACK = os.environ.get(TRACEBACK) == "1"
DOCTOR = """distillab doctor <words of train.py>, e.g. data=text data.path=my_texts strategy=kd
looks for the known mistakes of language runs on your text and models; exit code 1 if it finds one. More: docs/doctor.md"""
# Commands with words of their own, and the modules that have a function of that name.
APART = {"cache": "cache", "export": "export", "predict": "predict", "demo": "demo.command"}
SWEEP = "DISTILLAB_SWEEP"  # environment variable: the folder of the sweep that a cell belongs to

_examining: list[str] = []  # the word `doctor` of a command that trains no student
failed: list[Exception] = []  # errors of this command, or of the cells that ran in this process


@hydra.main(config_path=str(conf_dir()), config_name=PRIMARY, version_base="1.3")
def _job(cfg: DictConfig) -> dict[str, Any]:
    """One run: of the whole command, or one cell of a sweep, whose sweeper gets its primary figures or its error."""
    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    label, overrides = strategy_label(config.get("strategy") or {}), list(settings.overrides.task)
    try:
        if settings.mode != RunMode.MULTIRUN:
            folder = Path(os.environ[SWEEP]) if SWEEP in os.environ else None
            began = about(folder).get("began") if folder else None
            _run(Invocation(parse(config, overrides), label, command(), overrides, folder, began))
            return {}
        folder, chosen = Path(settings.sweep.dir), settings.runtime.choices
        method = method_name(label, chosen["scheme"])
        cell = Cell(folder, settings.job.num, method, str(chosen["student"]), overrides=overrides)
        told = about(folder)
        of_sweep = told["command"], overrides, folder, told.get("began")
        with stopping.stoppable():
            result = cell.run(
                lambda: _run(Invocation(parse(config, overrides), label, *of_sweep), cell.begin), one_line
            )
        figures = {"test": result.primary.value, "validation": result.student.validation.get(result.primary.name)}
        return figures | {"run": f"{result.name}/{result.config_hash}"}
    except Stopped as error:
        if not stopping.in_worker():
            raise
        return {"error": str(error)}  # raised, it would end the other workers before they have saved
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        # Printed now, not after the other cells of a sweep, and not raised: Hydra would add lines of its own.
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        failed.append(error)
        return {"error": one_line(error)}


def _run(invocation: Invocation, begin: Callable[[], None] = lambda: None) -> "Result | None":
    """The experiment, in this process or in as many as the trainer wants; calls `begin` once it has its devices."""
    from distillab.commands import experiment

    if _examining:
        return experiment.examine(invocation)
    count = devices.number_of_devices(invocation.config.trainer)
    invocation = replace(invocation, config=invocation.config.on_devices(count))
    config = invocation.config
    with output.quietly(config.quiet), devices.devices_of_a_cell(config.trainer, several=_in_parallel()):
        begin()
        for line in strategy_conflicts():
            rank_zero_print(line)
        to_do = invocation.wants_rerun or finished(invocation.home) is None
        if to_do:
            devices.check(config, count)
        if distributed.world == 1 and count > 1 and to_do:
            _torchrun(count, invocation.overrides, invocation.sweep_folder)
            return finished(invocation.home)
        return experiment.run(invocation)


def _in_parallel() -> bool:
    """Whether other processes run cells of this sweep."""
    settings = HydraConfig.get() if HydraConfig.initialized() else None
    several = settings is not None and settings.mode == RunMode.MULTIRUN
    return several and not settings.launcher._target_.endswith(".BasicLauncher")


def _torchrun(processes: int, overrides: Sequence[str], sweep_folder: Path | None) -> None:
    """Run this cell again as several processes, each with its rank: a plain sweep would start once per rank."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # Python would put the current folder first, see `main`.
    environment = (
        os.environ | {COMMAND: command(), "PYTHONSAFEPATH": "1"} | ({SWEEP: str(sweep_folder)} if sweep_folder else {})
    )
    words = [*launcher, "-m", "distillab.commands.cli", *config_folder(sys.argv[1:]), *overrides, "hydra.mode=RUN"]
    # A session of its own: a Ctrl-C reaches it once, from here, and not from the terminal too.
    running = subprocess.Popen(words, env=environment, start_new_session=True)  # noqa: S603 - no shell reads the words
    stopped: list[int] = []

    def pass_on(number: int, frame: Any) -> None:  # the processes save, and print how to go on
        stopped.append(number)
        running.send_signal(number)

    listen(pass_on)
    code = running.wait()
    listen(stop)
    if stopped:
        sys.exit(128 + stopped[0])
    if code:
        raise UserError(f"the {processes} processes of this run ended with {code}; the reason is printed above")


def main() -> None:
    """The entry of `train.py`, of `python -m distillab` and of the console command `distillab`."""
    ended(_command)


def ended(work: Callable[[], int]) -> None:
    """Do a command's work and end the process with its exit code; an error is told in one line, a stop with how to go on."""
    listen(stop)
    code = 1
    try:
        output.take_any_letter()
        code = work()
    except Stopped as error:
        code = error.code
        if error.number != signal.SIGPIPE:  # else somebody has read enough
            how = "what was finished is kept, and the same command goes on"
            rank_zero_print(f"{error}; {how}:\n  {command()}", file=sys.stderr)
    except BrokenPipeError:  # the reader of the output has gone: `| head`
        code = 128 + signal.SIGPIPE
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        with suppress(OSError):
            print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
    finally:
        distributed.stop()
    if code := output.flushed(code):
        sys.exit(code)


def _command() -> int:
    """Do what the words of the command line say; the exit code."""
    if "--version" in sys.argv[1:]:
        print(f"distillab {distillab.__version__}")
        return 0
    os.environ[TRACEBACK] = "1"  # Hydra then raises instead of printing, so that `one_line` is printed
    if os.getcwd() not in sys.path:  # so that student._target_=my_package.MyNet finds modules of this folder
        sys.path.append(os.getcwd())  # last: a statistics.py there must not stand in for Python's own
    folder = own_folder(sys.argv[1:])
    check_own_files(folder)
    if names := asked_about(sys.argv[1:]):
        print("\n\n\n".join(explain(name, folder) for name in names))
        return 0
    if (name := next(iter(sys.argv[1:]), "")) in APART:
        getattr(import_module(f"distillab.commands.{APART[name]}"), name)(sys.argv[2:])
        return 0
    if sys.argv[1:2] == ["doctor"]:
        if output.asks_for_help(sys.argv[2:]):
            print(DOCTOR)
            return 0
        _examining.append(sys.argv.pop(1))
    sys.argv[1:] = understood(sys.argv[1:])
    tune.register()
    ray_launcher.register()
    try:
        _job()
    finally:
        stopping.check()  # a worker that died of a signal is no error
    return 1 if failed or any(failures) else 0


if __name__ == "__main__":
    main()
