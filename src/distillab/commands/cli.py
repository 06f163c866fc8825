"""The command: composes the config, runs the experiment, and says in one line what is wrong with the input."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distillab.commands import devices, tune
from distillab.commands.composition import PRIMARY, ROLES, conf_dir, missing_choice, strategy_conflicts, strategy_label
from distillab.commands.invocation import Invocation, finished, home, parse
from distillab.commands.sweep import COMMAND, Cell, about, command, failures
from distillab.core import distributed
from distillab.core.distributed import rank_zero_print
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean, unknown_key
from distillab.core.run_identity import config_folder, method_name

if TYPE_CHECKING:
    from distillab.core.result import Result

TRACEBACK = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(TRACEBACK) == "1"
SWEEP = "DISTILLAB_SWEEP"  # environment variable: the folder of the sweep that a cell belongs to

failed: list[Exception] = []  # errors of this command, or of the cells that ran in this process


@hydra.main(config_path=str(conf_dir()), config_name=PRIMARY, version_base="1.3")
def _job(cfg: DictConfig) -> dict[str, Any]:
    """One run: of the whole command, or one cell of a sweep, whose sweeper gets its primary figures or its error."""
    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    label, overrides = strategy_label(config.get("strategy") or {}), list(settings.overrides.task)
    try:
        if settings.mode != RunMode.MULTIRUN:
            folder = os.environ.get(SWEEP)
            _run(Invocation(parse(config), label, command(), overrides, Path(folder) if folder else None))
            return {}
        folder, chosen = Path(settings.sweep.dir), settings.runtime.choices
        method = method_name(label, chosen["scheme"])
        cell = Cell(folder, settings.job.num, method, str(chosen["student"]), overrides=overrides)
        typed = about(folder)["command"]
        result = cell.run(
            lambda: _run(Invocation(parse(config), label, typed, overrides, folder), cell.begin), one_line
        )
        return {"test": result.primary.value, "validation": result.student.validation.get(result.primary.name)}
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

    count = devices.number_of_devices(invocation.config.trainer)
    config = invocation.config.on_devices(count)
    with devices.devices_of_a_cell(config.trainer, several=_in_parallel()):
        begin()
        for line in strategy_conflicts():
            rank_zero_print(line)
        if distributed.world == 1 and count > 1 and (config.rerun or finished(home(config)) is None):
            _torchrun(count, invocation.overrides, invocation.sweep_folder)
            return finished(home(config))
        return experiment.run(replace(invocation, config=config))


def _in_parallel() -> bool:
    """Whether other processes run cells of this sweep."""
    settings = HydraConfig.get() if HydraConfig.initialized() else None
    several = settings is not None and settings.mode == RunMode.MULTIRUN
    return several and not settings.launcher._target_.endswith(".BasicLauncher")


def _torchrun(processes: int, overrides: Sequence[str], sweep_folder: Path | None) -> None:
    """Run this cell again as several processes, each with its rank: a plain sweep would start once per rank."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {COMMAND: command()} | ({SWEEP: str(sweep_folder)} if sweep_folder else {})
    words = [*launcher, "-m", "distillab.commands.cli", *config_folder(sys.argv[1:]), *overrides, "hydra.mode=RUN"]
    running = subprocess.Popen(words, env=environment)
    try:
        code = running.wait()
    except KeyboardInterrupt:  # torchrun gets it too and passes it on: the processes save, and print how to go on
        running.wait()
        sys.exit(130)
    if code:
        raise UserError(f"the {processes} processes of this run ended with {code}; the reason is printed above")


def main() -> None:
    """The entry of `train.py` and of the console command `distillab`."""
    os.environ[TRACEBACK] = "1"  # Hydra then raises instead of printing, so that `one_line` is printed
    optional = ("+experiment=", "+debug=", "+sweep=")  # these groups are in the defaults, as null: a plus says no more
    sys.argv[1:] = [word.removeprefix("+") if word.startswith(optional) else word for word in sys.argv[1:]]
    # Hydra reads no bare ~, which a shell leaves as it is behind a key.
    sys.argv[1:] = [re.sub(r"""^([^='"]+=)(~[^,'"()\[\]{}]*)$""", r'\1"\2"', word) for word in sys.argv[1:]]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that student._target_=my_package.MyNet finds modules of this folder
    try:
        _refuse_shadowed(sys.argv[1:])
        tune.register()
        _job()
        if failed or any(failures):
            sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if WANTS_TRACEBACK:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except BaseException as error:
        if type(error).__name__ != "Interrupted":
            raise
        rank_zero_print(f"{error}; everything is saved, the same command goes on:\n  {command()}", file=sys.stderr)
        sys.exit(130)
    finally:
        distributed.stop()


def _refuse_shadowed(words: list[str]) -> None:
    """Raise UserError for a file in --config-dir with the name of a shipped one, which Hydra would silently ignore."""
    for word in config_folder(words):
        folder = Path(re.sub("^-.*?=", "", word))
        for path in sorted(folder.rglob("*.yaml")):
            if (conf_dir() / path.relative_to(folder)).is_file():
                raise UserError(f"{path} has the name of a shipped file, which would win; give yours another name")


def one_line(error: BaseException) -> str:
    """What was wrong and what is allowed, for any error that reaches the command."""
    words = " ".join(str(error).split())
    match error:
        case UserError():
            return str(error)
        case MissingConfigException() if error.missing_cfg_file:
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            if group == "hydra/launcher":
                return f'{group}={name} is not installed: pip install "distillab[sweeps]", or choose launcher=basic'
            return f"{missing_choice(error, group, name)}: {group}=…"
        case OverrideParseException():
            return f'cannot read "{error.override}": write key=value, e.g. strategy=hint or recipe.epochs=3'
        case KeyboardInterrupt():
            return "stopped"
        case ConfigCompositionException():
            return _unknown(error) or words
        case OSError() | OmegaConfBaseException():
            return words
    return f"{type(error).__name__}: {words} ({TRACEBACK}=1 shows where)"


def _unknown(error: ConfigCompositionException) -> str | None:
    """The line about an override of a key or a group that does not exist; None for any other error."""
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        node, (parent, _, key) = cause.parent_node, str(cause.full_key).rpartition(".")
        allowed = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if allowed and key not in allowed:
            return unknown_key(parent, key, allowed)
    if "No match in the defaults list" in str(error):
        key = str(error).split("'")[1]
        groups = sorted({*ROLES, *(path.name for path in conf_dir().iterdir() if path.is_dir())} - {"model"})
        return f'there is no "{key}"{did_you_mean(key, groups)} (groups: {", ".join(groups)})'
    return None


if __name__ == "__main__":
    main()
