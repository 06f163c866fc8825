"""One experiment: finds its earlier result, or makes it step by step, writes it and shows it."""

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from distillab.commands import sweep
from distillab.commands.invocation import RUNS, Invocation, finished
from distillab.commands.run_folder import check_weights
from distillab.commands.shipping import exported, to_ship, upload, write
from distillab.core import distributed
from distillab.core.errors import UserError
from distillab.core.files import locked, replacing, writable
from distillab.core.output import logged, rank_zero_print, rank_zero_warn
from distillab.core.result import Result
from distillab.core.result_reader import read
from distillab.core.run_identity import versions
from distillab.core.timer import Timer
from distillab.evaluation.cost import with_cost
from distillab.reporting import loggers
from distillab.reporting.leaderboard import refresh
from distillab.reporting.run_end import show
from distillab.training.startup import import_quietly

if TYPE_CHECKING:
    from distillab.commands.steps import Parts


def run(invocation: Invocation) -> Result | None:
    """The result of a config, written and shown; None in any process but the first. UserError for bad input."""
    timer, config = Timer(), invocation.config
    directory, first = invocation.home, distributed.rank == 0
    earlier = None if distributed.world > 1 or invocation.wants_rerun else finished(directory)
    if earlier and not to_ship(earlier, config, directory):  # without the heavy imports
        return _show_again(earlier, invocation, directory)
    if config.push_to_hub and invocation.sweep_folder:
        raise UserError(
            "push_to_hub names one repository, and a sweep makes many students: push one of them afterwards"
        )
    loggers.check(config.logger)
    with timer.part("import"):
        import_quietly(config.trainer.accelerator)
    from distillab.commands import steps  # brings torch and lightning, which take seconds

    parts = steps.check(config)  # before the folder of the run is made
    # Beside the folder, which a rerun deletes.
    held = locked(directory.with_name(f".{directory.name}.lock"), f"another process that is at {directory}", RUNS)
    with held if first else nullcontext():
        # A process that waited finds the run finished; the other processes of this run wait here for the first.
        if earlier := distributed.broadcast(None if invocation.wants_rerun else finished(directory)):
            return _show_again(earlier, invocation, directory, parts) if first else earlier
        return _make(invocation, directory, parts, timer)


def examine(invocation: Invocation) -> None:
    """Let the doctor look at a config's text and models, its teacher trained; UserError where a run would be wrong."""
    config = invocation.config.on_devices(1)
    import_quietly(config.trainer.accelerator)
    from distillab.commands import steps

    parts = steps.check(config)
    if parts.task.name != "causal_lm":
        raise UserError("the doctor looks at language runs: data=text data.path=… or data=sotu")
    if config.teacher.shard:
        raise UserError("the doctor looks at a teacher that is whole on a device: teacher.shard=false")
    made = steps.prepare(config, parts, Timer())
    steps.ready(made)
    steps.examine(made, whole=True)


def _show_again(earlier: Result, invocation: Invocation, directory: Path, parts: "Parts | None" = None) -> Result:
    """A finished run's result, with the prices, the licence and, given the `parts`, the files that are asked for now."""
    how = "this sweep has repeated it" if invocation.config.rerun else "rerun=true repeats it"
    rank_zero_print(f"this run was finished on {earlier.created[:10]}; {how}")
    try:
        check_weights(directory, earlier.weights)
    except UserError as error:  # the result is still what was measured
        rank_zero_warn(str(error))
    prices, own = invocation.config.roi, invocation.config.license
    if prices.price_per_hour is not None:  # a price changes nothing that was trained
        earlier = with_cost(earlier.changed(config=earlier.config | {"roi": asdict(prices)}), prices)
    if own is not None:
        earlier = earlier.changed(config=earlier.config | {"license": own})
    # The card of an earlier version claims a gain over the student alone.
    stale = earlier.head_fitted and earlier.gain is None
    if prices.price_per_hour is not None or own is not None or stale or not (directory / "README.md").exists():
        write(earlier, directory)
    try:
        if parts is not None and to_ship(earlier, invocation.config, directory):
            from distillab.commands.trained import finished_student

            with logged(directory / "log.txt", invocation.command):
                student = lambda: finished_student(earlier, invocation.config, directory, parts)  # noqa: E731
                earlier = exported(earlier, invocation.config, directory, student)
    finally:
        if invocation.sweep_folder is None:  # a sweep has a table of its own
            _refresh(directory.parents[1])
            show(read(directory / "result.json")[0] or earlier, directory)
    upload(earlier, invocation.config, directory)
    return earlier


def _make(invocation: Invocation, directory: Path, parts: "Parts", timer: Timer) -> Result | None:
    """The result, after the steps that lead to it; written, logged and shown."""
    from distillab.commands import steps

    config, new = invocation.config, not directory.exists()
    made = steps.prepare(config, parts, timer)  # what it refuses leaves everything as it was
    if distributed.rank == 0:
        _start_over(directory, wanted=config.rerun)
    distributed.barrier()
    with writable(directory, RUNS):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        with logged(directory / "log.txt", invocation.command):
            return _made(invocation, directory, timer, made)
    except UserError:
        if new and "fit" not in timer.seconds and distributed.rank == 0:  # refused once the teacher was known
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _made(invocation: Invocation, directory: Path, timer: Timer, made: Any) -> Result | None:
    """The same, from what `steps.prepare` has built."""
    from distillab.commands import steps, testing

    config, folder = invocation.config, invocation.sweep_folder
    logger, result, exit_code = None, None, 1
    try:
        if distributed.rank == 0:
            with writable(directory, RUNS), replacing(directory / "config.yaml") as temporary:
                temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config.plain))), encoding="utf-8")
            shown = f"{config.name}/{invocation.label}/{directory.name}"
            logger = loggers.build(config.logger, directory, config.plain, shown, group=folder and folder.name)
        steps.pretrain(made)
        steps.fit(made, directory, invocation.label, logger)
        fields = testing.evaluate(made, directory)
        if fields is not None:
            result = _result(fields, timer, invocation, directory)
            # Until its figures are logged it is not finished: the same command then makes up for that.
            write(result if logger is None else result.changed(status="not logged"), directory)
            _refresh(directory.parents[1])
            loggers.log_summary(logger, result, sweep.results(folder, Path(config.paths.runs)) if folder else [])
        exit_code = 0
    finally:
        where = loggers.finish(logger, exit_code)
    if result is not None:
        if logger is not None:
            write(result, directory)
        try:
            result = exported(result, config, directory, lambda: steps.export(made, result, directory))
        finally:  # a file that cannot be made takes nothing from a run that is finished
            show(read(directory / "result.json")[0] or result, directory)
        upload(result, config, directory)
    if where:
        rank_zero_print(f"W&B: {where}")
    distributed.barrier()
    return result


def _refresh(runs: Path) -> None:
    """Draw the leaderboard again; where there is no room for it a line says so, as the run's own result is whole."""
    try:
        refresh(runs)
    except UserError as error:
        rank_zero_warn(f"the result is written, the leaderboard is not: {error}")


def _start_over(directory: Path, *, wanted: bool) -> None:
    """Empty the folder of a run that is repeated, once: one that was stopped goes on. A mark in it says which it is.

    The folder itself stays, which may be a link to another disk.
    """
    mark = directory / ".rerun"
    with writable(directory, RUNS):
        said = mark.read_text() if mark.exists() else ""
        if said != "emptying" and (not wanted or (said and not (directory / "result.json").exists())):
            return
        directory.mkdir(parents=True, exist_ok=True)
        mark.write_text("emptying")
        (directory / "result.json").unlink(missing_ok=True)  # first: half of a run is no finished one
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        mark.write_text("begun")


def _result(found: dict[str, Any], timer: Timer, invocation: Invocation, directory: Path) -> Result:
    """The result of what was found."""
    config = invocation.config
    # The number of the run, and the student's own seed where it is another.
    seeds = {"seed": config.plain["seed"], "teacher": config.teacher.seed}
    seeds |= {} if "init" in config.vary else {"init": config.seed}
    fields = found | {
        "name": config.name,
        "command": invocation.command,
        "overrides": list(invocation.overrides),
        "config": config.plain,
        "config_hash": directory.name,
        "versions": versions(config.plain),
        "seeds": seeds | {"split": config.data.get("split_seed"), "view": config.data.get("view_seed")},
        "strategy": invocation.label,
        "protocol": config.protocol.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": timer.all(),
    }
    return with_cost(Result.model_validate(fields), config.roi)
