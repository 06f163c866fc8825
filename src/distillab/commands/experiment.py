"""One experiment, step by step in the order in which the data flows: the only file that knows all the steps."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillab.commands import sweep
from distillab.commands.invocation import Invocation
from distillab.commands.run_dir import RUNS, finished, home, write_config
from distillab.core import distributed
from distillab.core.configuration import RunConfig
from distillab.core.distributed import rank_zero_print
from distillab.core.files import locked, replacing, writable, write_json
from distillab.core.instantiate import build
from distillab.core.result import SCHEMA, gain_and_gap, model_entry, versions
from distillab.core.timer import Timer
from distillab.evaluation.cost import with_cost
from distillab.reporting import loggers
from distillab.reporting.model_card import model_card
from distillab.reporting.show import refresh, show
from distillab.reporting.table import models_line
from distillab.training.startup import import_quietly


def run(invocation: Invocation) -> dict[str, Any]:
    """Teacher, baseline and student, from a config to a result that is written and shown.

    Returns:
        The result, as in result.json.

    Raises:
        UserError: bad input, in one line.
    """
    timer, config = Timer(), invocation.config
    directory = home(config)
    if distributed.world == 1 and (earlier := _earlier(config, directory)):  # without the heavy imports
        return _show_again(earlier, invocation, directory)
    with timer.part("import"):
        import_quietly(config.trainer.accelerator)
    # Beside the folder, which a rerun deletes.
    held = locked(directory.with_name(f".{directory.name}.lock"), f"another process that is at {directory}", RUNS)
    with held if distributed.rank == 0 else nullcontext():
        # A process that waited finds the run finished; the other processes of this run wait here for the first.
        if earlier := distributed.broadcast(_earlier(config, directory)):
            return _show_again(earlier, invocation, directory)
        if config.rerun and distributed.rank == 0:
            shutil.rmtree(directory, ignore_errors=True)
        distributed.barrier()
        return _make(invocation, directory, timer)


def _earlier(config: RunConfig, directory: Path) -> dict[str, Any] | None:
    """The run's result, where it is there and not to be made again."""
    return None if config.rerun else finished(directory)


def _show_again(earlier: dict[str, Any], invocation: Invocation, directory: Path) -> dict[str, Any]:
    """A finished run's result, with the costs at the prices that are given now."""
    rank_zero_print(f"this run was finished on {earlier['created'][:10]}; rerun=true repeats it")
    roi = invocation.config.roi
    if roi.price_per_hour is not None:  # a price changes nothing that was trained
        earlier["config"]["roi"] = asdict(roi)
        earlier = with_cost(earlier, roi)
        if distributed.rank == 0:
            with writable(directory, RUNS):
                write_json(directory / "result.json", earlier)
    if invocation.sweep_folder is None and distributed.rank == 0:  # a sweep has a table of its own
        refresh(directory.parents[1])
        show(earlier, directory)
    return earlier


def _make(invocation: Invocation, directory: Path, timer: Timer) -> dict[str, Any]:
    """The result, after the steps that lead to it; written and shown."""
    config, label, sweep_folder = invocation.config, invocation.label, invocation.sweep_folder
    about = _about(invocation, directory)
    logger = None
    exit_code = 1
    try:
        if distributed.rank == 0:
            write_config(directory, config)
            shown = f"{config.name}/{label}/{directory.name}"
            settings = config.plain["logger"]
            logger = loggers.build(settings, directory, config.plain, shown, sweep_folder and sweep_folder.name)
        result = about | _distil(config, label, directory, timer, logger)
        result |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": timer.all()}
        if distributed.rank == 0:
            _write(result, directory)
            siblings = sweep.results(sweep_folder, Path(config.paths.runs)) if sweep_folder else []
            loggers.log_summary(logger, result, siblings)
        exit_code = 0
    finally:
        where = loggers.finish(logger, exit_code)
    show(result, directory)
    if where:
        rank_zero_print(f"W&B: {where}")
    distributed.barrier()
    return result


def _about(invocation: Invocation, directory: Path) -> dict[str, Any]:
    """What a result says of the run before anything is measured."""
    config = invocation.config
    seeds = {"seed": config.seed, "teacher": config.teacher.seed}
    return {
        "schema": SCHEMA,
        "status": "finished",
        "name": config.plain["name"],
        "command": invocation.command,
        "overrides": list(invocation.overrides),
        "config": config.plain,
        "config_hash": directory.name,
        "versions": versions(),
        "seeds": seeds | {"split": config.data.get("split_seed"), "view": config.data.get("view_seed")},
        "strategy": invocation.label,
        "protocol": config.protocol.name,
    }


def _write(result: dict[str, Any], directory: Path) -> None:
    """Put the result and the student's model card into the run's folder, and renew the pages over all runs."""
    with writable(directory, RUNS):
        write_json(directory / "result.json", result)
        with replacing(directory / "README.md") as temporary:
            temporary.write_text(model_card(result), encoding="utf-8")
    refresh(directory.parents[1])


def _distil(typed: RunConfig, label: str, directory: Path, timer: Timer, logger: Any) -> dict[str, Any]:
    """The steps themselves: data, models, teacher, baseline, student, judgement."""
    from distillab.commands.preflight import preflight
    from distillab.evaluation.efficiency import measure
    from distillab.evaluation.judgement import judgement, write_predictions
    from distillab.export.safetensors import save_model
    from distillab.reporting.limits_plot import limits_picture
    from distillab.schemes import pretrain as trained
    from distillab.schemes.base import Run
    from distillab.schemes.measure import warn_if_below
    from distillab.schemes.store import Store
    from distillab.strategies.strategy import Strategy
    from distillab.teachers.cached import attach, check_cache
    from distillab.training.dot import check_kinds
    from distillab.training.fit import fit

    config = typed.plain  # for the schemes and the teachers, which read the plain config
    # What can be refused is refused before anything is trained.
    recipe, protocol, seed = typed.recipe, typed.protocol, typed.seed
    strategy = Strategy.of(typed.strategy)
    strategy.plan(recipe.epochs)
    check_kinds(recipe.optimizer, strategy)
    scheme = build(typed.scheme, "scheme")
    protocol.check_data(typed.data.get("validation", protocol.validation))
    with timer.part("data"):
        data = build(typed.data, "data")
        strategy.check_mixed(data.mixes)
        data.prepare()
    spec = data.info
    check_cache(config["cache"], len(spec.classes))
    ready = data.configure(recipe.batch_size, seed, strategy.views, watch=protocol.watches)
    setting = trained.Setting(Store(typed.paths.store), protocol, config["trainer"])
    this = Run(config, data, recipe, strategy, setting)
    student = this.student()
    strategy.connect(student.info, scheme.prepare(this, student), seed)
    alone = config["strategy"] == trained.ALONE
    if not alone:
        preflight(scheme, this, student)
    teacher = scheme.model
    rank_zero_print(models_line(student, teacher))

    records: dict[str, Any] = {"teacher": None, "baseline": None}
    untaught = longer = None
    with timer.part("teacher"):
        records["teacher"] = scheme.obtain(this)
    if scheme.name != "offline":
        rank_zero_print(f"{student.info.name} learns from {scheme.parent} (scheme={scheme.name})")
    if not alone:  # before anything else is trained: the cache may refuse
        module = scheme.module(this, student)
        attach(module, ready, config, Path(typed.paths.store) / "cache")
    if typed.baseline and not alone:
        with timer.part("baseline"):
            untaught = this.student()
            records["baseline"] = this.train_student_alone(untaught)
            warn_if_below(records, student.info.name)
            if teacher is not None and typed.equal_compute:
                longer = this.train_student_longer(scheme.live)
    with timer.part("fit"):
        title = f"{student.info.name} {label}" + (f" ({scheme.name})" if scheme.name != "offline" else "")
        if alone:
            records["student"] = this.train_student_alone(student, logger, title)
        else:
            how = {"recipe": recipe, "protocol": protocol, "trainer": typed.trainer}
            records["student"] = fit(
                module, ready, **how, directory=directory / "checkpoints", title=title, logger=logger
            )
            records["student"]["views"] = strategy.views
            module.release()
    if distributed.rank != 0:
        return {"student": records["student"]}

    with timer.part("evaluation"):
        deployed = student if alone else module.deployed()
        networks = {"teacher": teacher, "baseline": untaught, "student": deployed}
        asked = {role: this.answers(networks[role], record) for role, record in records.items() if record}
        logits, labels = {role: answers[0] for role, answers in asked.items()}, asked["student"][1]
        figures, about = judgement(logits, labels, spec.classes)
        if not alone:
            records["student"]["top1"] = this.accuracy(deployed, asked["student"])
        scheme.finish(this, student, records["student"])
        costs = {
            role: measure(networks[role], student.input_shape, setting.device)
            for role in asked
            if role != "baseline" or deployed is not student  # or one network would have two latencies
        }
        costs.setdefault("baseline", costs["student"])
    names = {role: (student if role == "student" else networks[role]).info.name for role in asked}
    models = {
        role: record and model_entry(names[role], record, costs[role] | figures[role], protocol.watches)
        for role, record in records.items()
    }
    gain, gap_closed = gain_and_gap(
        *(models[role] and models[role]["top1"] for role in ("student", "baseline", "teacher"))
    )
    sizes = {"name": spec.name, "classes": len(spec.classes), "class_names": list(spec.classes), **data.sizes}
    about |= {"gain": gain, "gap_closed": gap_closed, "data": sizes, "scheme": scheme.name, "lineage": scheme.lineage}
    about["cache"] = None if alone or module.cache is None else module.cache.record
    about["longer"] = longer
    with writable(directory, RUNS):
        save_model(student, directory / "student.safetensors", config["student"], spec.classes, deployed)
        write_predictions(directory / "predictions.npz", logits, labels)
        if about["limits"]:
            limits_picture(about["limits"], directory / "limits.png")
    return with_cost(models | about, typed.roi)
