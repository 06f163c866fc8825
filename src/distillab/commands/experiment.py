"""One experiment, step by step in the order in which the data flows: the only file that knows all the steps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillab.commands import sweep
from distillab.commands.composition import build
from distillab.commands.members import with_members
from distillab.commands.run_dir import RUNS, finished, home, write_config
from distillab.core import distributed
from distillab.core.distributed import rank_zero_print
from distillab.core.files import locked, replacing, writable, write_json
from distillab.core.result import SCHEMA, gain_and_gap, model_entry, versions
from distillab.core.timer import Timer
from distillab.evaluation.cost import check_roi, with_cost
from distillab.reporting import loggers
from distillab.reporting.model_card import model_card
from distillab.reporting.show import refresh, show
from distillab.reporting.table import models_line
from distillab.training.startup import import_quietly


def run(
    config: dict[str, Any],
    label: str,
    command: str = "",
    overrides: list[str] | None = None,
    sweep_folder: Path | None = None,
) -> dict[str, Any]:
    """Teacher, baseline and student, from a resolved config to a result that is written and shown.

    Args:
        config: resolved, plain Python.
        label: the strategy's name.
        command: what the person typed.
        overrides: what differs from the defaults.
        sweep_folder: that of the sweep which the run belongs to.

    Returns:
        The result, as in result.json.

    Raises:
        UserError: anything that the person can mend.
    """
    timer = Timer()
    config = with_members(config)
    check_roi(config["roi"])
    directory = home(config)
    if distributed.world == 1 and (earlier := _earlier(config, directory)):  # without the heavy imports
        return _shown_again(earlier, config, directory, sweep_folder)
    with timer.part("import"):
        import_quietly(config["trainer"])
    # Beside the folder, which a rerun deletes.
    held = locked(directory.with_name(f".{directory.name}.lock"), f"another process that is at {directory}", RUNS)
    with held if distributed.rank == 0 else nullcontext():
        # Whoever waited finds it finished; the other processes of this run wait here for the first.
        if earlier := distributed.broadcast(_earlier(config, directory)):
            return _shown_again(earlier, config, directory, sweep_folder)
        if config["rerun"] and distributed.rank == 0:
            shutil.rmtree(directory, ignore_errors=True)
        distributed.barrier()
        return _made(config, label, directory, timer, command, overrides or [], sweep_folder)


def _earlier(config: Mapping[str, Any], directory: Path) -> dict[str, Any] | None:
    """The run's result, where it is there and not to be made again."""
    return None if config["rerun"] else finished(directory)


def _shown_again(
    earlier: dict[str, Any], config: Mapping[str, Any], directory: Path, sweep_folder: Path | None
) -> dict[str, Any]:
    """A finished run's result, with the costs at the prices that are given now."""
    rank_zero_print(f"this run was finished on {earlier['created'][:10]}; rerun=true repeats it")
    if config["roi"]["price_per_hour"] is not None:  # a price changes nothing that was trained
        earlier["config"]["roi"] = config["roi"]
        earlier = with_cost(earlier, config["roi"])
        if distributed.rank == 0:
            with writable(directory, RUNS):
                write_json(directory / "result.json", earlier)
    if sweep_folder is None and distributed.rank == 0:  # a sweep's own table shows it
        refresh(directory.parents[1])
        show(earlier, directory)
    return earlier


def _made(
    config: dict[str, Any],
    label: str,
    directory: Path,
    timer: Timer,
    command: str,
    overrides: list[str],
    sweep_folder: Path | None,
) -> dict[str, Any]:
    """The result, after the steps that lead to it; written and shown."""
    about = {
        "schema": SCHEMA,
        "status": "finished",
        "name": config["name"],
        "command": command,
        "overrides": overrides,
        "config": config,
        "config_hash": directory.name,
        "versions": versions(),
        "seeds": {
            "seed": config["seed"],
            "teacher": config["teacher"].get("seed"),
            "split": config["data"].get("split_seed"),
            "view": config["data"].get("view_seed"),
        },
        "strategy": label,
        "protocol": config["protocol"]["name"],
    }
    logger = None
    exit_code = 1
    try:
        if distributed.rank == 0:
            write_config(directory, config)
            shown = f"{config['name']}/{label}/{directory.name}"
            logger = loggers.build(config["logger"], directory, config, shown, sweep_folder and sweep_folder.name)
        result = about | _distil(config, label, directory, timer, logger)
        result |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": timer.all()}
        if distributed.rank == 0:
            with writable(directory, RUNS):
                write_json(directory / "result.json", result)
                with replacing(directory / "README.md") as temporary:
                    temporary.write_text(model_card(result), encoding="utf-8")
            refresh(directory.parents[1])
            siblings = sweep.results(sweep_folder, Path(config["paths"]["runs"])) if sweep_folder else []
            loggers.log_summary(logger, result, siblings)
        exit_code = 0
    finally:
        where = loggers.finish(logger, exit_code)
    show(result, directory)
    if where:
        rank_zero_print(f"W&B: {where}")
    distributed.barrier()
    return result


def _distil(config: dict[str, Any], label: str, directory: Path, timer: Timer, logger: Any) -> dict[str, Any]:
    """The steps themselves: data, models, teacher, baseline, student, judgement."""
    from distillab.commands.preflight import preflight
    from distillab.evaluation.efficiency import measure
    from distillab.evaluation.judgement import judgement, write_predictions
    from distillab.export.safetensors import save_model
    from distillab.reporting.limits_plot import limits_picture
    from distillab.schemes import pretrain
    from distillab.schemes.base import Run
    from distillab.schemes.cache import check_cache, with_cache
    from distillab.schemes.measure import warn_if_below
    from distillab.schemes.store import Store
    from distillab.strategies.strategy import Strategy
    from distillab.training.dot import check_kinds
    from distillab.training.fit import fit
    from distillab.training.recipe import Recipe

    # What can be refused is refused before anything is trained.
    recipe, seed = Recipe.of(config["recipe"]), config["seed"]
    Recipe.of(config["teacher"]["recipe"], "teacher.recipe")
    strategy = Strategy.of(config.get("strategy"))
    strategy.plan(recipe.epochs)
    check_kinds(recipe.optimizer, strategy)
    scheme = build(config["scheme"], "scheme")
    protocol = build(config["protocol"], "protocol")
    protocol.check_data(config["data"].get("validation", protocol.validation))
    with timer.part("data"):
        data = build(config["data"], "data")
        strategy.check_mixed(data.mixes)
        data.prepare()
    spec = data.info
    check_cache(config["cache"], len(spec.classes))
    task = build(config["task"], "task", channels_last=config["trainer"]["channels_last"])
    setting = pretrain.Setting(Store(config["paths"]["store"]), protocol, config["trainer"], task)
    ready = setting.configured(data, recipe, seed, strategy.views)
    this = Run(config, data, recipe, strategy, setting)
    student = this.student()
    strategy.connect(student.info, scheme.prepare(this, student), seed)
    alone = config["strategy"] == pretrain.ALONE
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
        source = with_cache(scheme.source(student), strategy, ready, config, Path(config["paths"]["store"]) / "cache")
        module = scheme.module(this, student, source)
    if config["baseline"] and not alone:
        with timer.part("baseline"):
            untaught = this.student()
            records["baseline"] = this.train_student_alone(untaught)
            warn_if_below(records, student.info.name)
            if teacher is not None and config["equal_compute"]:
                longer = this.train_student_longer(scheme.live)
    with timer.part("fit"):
        title = f"{student.info.name} {label}" + (f" ({scheme.name})" if scheme.name != "offline" else "")
        if alone:
            records["student"] = this.train_student_alone(student, logger, title)
        else:
            place = directory / "checkpoints"
            records["student"] = fit(module, ready, recipe, protocol, config["trainer"], place, title, logger)
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
            role: measure(networks[role], setting.device)
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
    about["cache"] = None if alone or module.teacher is None else module.teacher.cache_record
    about["longer"] = longer
    with writable(directory, RUNS):
        save_model(student, directory / "student.safetensors", config["student"], spec.classes, deployed)
        write_predictions(directory / "predictions.npz", logits, labels)
        if about["limits"]:
            limits_picture(about["limits"], directory / "limits.png")
    return with_cost(models | about, config["roi"])
