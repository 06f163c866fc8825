"""The command: composes the config, runs the experiment, and says in one line what is wrong with the input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distillab.commands import tune
from distillab.commands.composition import PRIMARY, ROLES, conf_dir, did_you_mean, strategy_conflicts, strategy_label
from distillab.commands.sweep import TYPED, Cell, about, command, failures
from distillab.core import distributed
from distillab.core.errors import UserError
from distillab.core.run_identity import config_folder, method_name

if TYPE_CHECKING:
    from distillab.core.result import Result

OPTIONAL_GROUPS = ("experiment", "debug", "sweep")
TRACEBACK = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(TRACEBACK) == "1"
SWEEP = "DISTILLAB_SWEEP"  # tells the processes of one cell which sweep it belongs to

failed: list[Exception] = []  # what kept this command, or a cell in this process, from ending well


@hydra.main(config_path=str(conf_dir()), config_name=PRIMARY, version_base="1.3")
def _job(cfg: DictConfig) -> dict[str, Any]:
    """One cell: the whole command, or one combination of a sweep, which is told its accuracies or its error."""
    from hydra.core.hydra_config import HydraConfig

    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    label, overrides = strategy_label(config.get("strategy") or {}), list(settings.overrides.task)
    try:
        if settings.mode is None or settings.mode.name != "MULTIRUN":
            told = os.environ.get(SWEEP)
            _run(config, label, command(), overrides, Path(told) if told else None)
            return {}
        folder, chosen = Path(settings.sweep.dir), settings.runtime.choices
        named = method_name(label, chosen["scheme"])
        cell = Cell(folder, settings.job.num, named, str(chosen["student"]), overrides)
        typed = about(folder)["command"]
        result = cell.run(partial(_run, config, label, typed, overrides, folder, cell.begin), one_line)
        return {"test": result.primary.value, "validation": result.student.validation.get(result.primary.name)}
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        # Said now, not after the other cells of a sweep, and not raised: Hydra would add lines of its own.
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        failed.append(error)
        return {"error": one_line(error)}


def _run(
    config: dict[str, Any],
    label: str,
    typed: str,
    overrides: list[str],
    sweep_folder: Path | None,
    begin: Callable[[], None] = lambda: None,
) -> Result | None:
    """The experiment, in this process or in as many as the trainer wants; its result.

    `begin` is called once the run has its devices.
    """
    from distillab.commands import experiment
    from distillab.commands.devices import devices_of_a_cell, number_of_devices
    from distillab.commands.run_dir import finished, home

    _check_groups(config)
    config["trainer"]["devices"] = devices = number_of_devices(config["trainer"])
    with devices_of_a_cell(config["trainer"], several=_in_parallel()):
        begin()
        for line in strategy_conflicts():
            distributed.rank_zero_print(line)
        if distributed.world == 1 and devices > 1:
            directory = home(config)
            if config["rerun"] or finished(directory) is None:
                _torchrun(devices, overrides, sweep_folder)
                return finished(directory)
        return experiment.run(config, label, typed, overrides, sweep_folder)


def _in_parallel() -> bool:
    """Whether other processes run cells of this sweep."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return False
    settings = HydraConfig.get()
    multirun = settings.mode is not None and settings.mode.name == "MULTIRUN"
    return multirun and not settings.launcher._target_.endswith(".BasicLauncher")


def _check_groups(config: dict[str, Any]) -> None:
    for group in ("strategy", "student", "teacher", "data", "recipe", "scheme", "protocol", "trainer", "logger"):
        if not isinstance(config.get(group), dict) or not config[group]:
            raise UserError(f"{group} is empty: choose one of {', '.join(choices(group))} with {group}=…")


def _torchrun(processes: int, overrides: list[str], sweep_folder: Path | None) -> None:
    """Run this cell again as several processes, each with its rank: a plain sweep would start once per rank."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {TYPED: command()} | ({SWEEP: str(sweep_folder)} if sweep_folder else {})
    words = [*launcher, "-m", "distillab.commands.cli", *config_folder(sys.argv[1:]), *overrides, "hydra.mode=RUN"]
    running = subprocess.Popen(words, env=environment)
    try:
        code = running.wait()
    except KeyboardInterrupt:  # torchrun has heard it too and passes it on: they save, and say how to go on
        running.wait()
        sys.exit(130)
    if code:
        raise UserError(f"the {processes} processes of this run ended with {code}; the reason stands above")


def choices(group: str) -> list[str]:
    """The names that a group offers in the shipped folder."""
    folder = conf_dir() / ("model" if group in ROLES else group)
    return sorted(path.stem for path in folder.glob("*.yaml"))


def main() -> None:
    """The entry of `train.py` and of the console command `distillab`."""
    os.environ[TRACEBACK] = "1"  # Hydra then raises instead of printing, and the line below is ours
    sys.argv[1:] = [_spelled(word) for word in sys.argv[1:]]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that student._target_=my_package.MyNet finds what lies here
    try:
        _refuse_shadowed(sys.argv[1:])
        tune.register()
        _job()
        if failed or failures:
            sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if WANTS_TRACEBACK:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except BaseException as error:
        if type(error).__name__ != "Interrupted":
            raise
        if distributed.rank == 0:
            print(f"{error}; everything is saved, the same command goes on:\n  {command()}", file=sys.stderr)
        sys.exit(130)
    finally:
        distributed.stop()


def _spelled(word: str) -> str:
    """`+experiment=x` means `experiment=x`: the group stands in the defaults as null."""
    return word[1:] if word.startswith(tuple(f"+{group}=" for group in OPTIONAL_GROUPS)) else word


def _refuse_shadowed(words: list[str]) -> None:
    """A file in --config-dir with the name of a shipped one would be ignored by Hydra without a word."""
    for i, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            continue
        folder = Path(value or (words[i + 1] if i + 1 < len(words) else ""))
        for path in sorted(folder.rglob("*.yaml")):
            inside = path.relative_to(folder)
            if (conf_dir() / inside).is_file():
                raise UserError(f"{path} has the name of a shipped file, which would win; give yours another name")


def one_line(error: BaseException) -> str:
    """What was wrong and what is allowed, for any error that reaches the command."""
    from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException

    cause = error.__cause__
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher":
            return f'hydra/launcher={name} is not installed: pip install "distillab[sweeps]", or choose launcher=basic'
        allowed = list(error.options or choices(group))  # of a list Hydra does not say what it could have held
        return f'{group} has no "{name}"{did_you_mean(name, allowed)} (allowed: {", ".join(allowed)}): {group}=…'
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        full_key, node = str(cause.full_key), cause.parent_node
        parent, _, key = full_key.rpartition(".")
        allowed = [str(name) for name in node] if node is not None and OmegaConf.is_dict(node) else []
        if allowed and key not in allowed:
            where = parent or "the config"
            return f'{where} has no "{key}"{did_you_mean(key, allowed)} (allowed: {", ".join(allowed)})'
    if isinstance(error, ConfigCompositionException) and "No match in the defaults list" in str(error):
        key = str(error).split("'")[1]
        groups = sorted({*ROLES, *(p.name for p in conf_dir().iterdir() if p.is_dir())} - {"model"})
        return f'there is no "{key}"{did_you_mean(key, groups)} (groups: {", ".join(groups)})'
    if isinstance(error, OverrideParseException):
        return f'cannot read "{error.override}": write key=value, e.g. strategy=hint or recipe.epochs=3'
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    words = " ".join(str(error).split())
    if isinstance(error, OSError | OmegaConfBaseException | ConfigCompositionException):
        return words
    return f"{type(error).__name__}: {words} ({TRACEBACK}=1 shows where)"


if __name__ == "__main__":
    main()
