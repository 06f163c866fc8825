"""One experiment, step by step in the order in which the data flows: the only file that knows all the steps."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillab import distributed
from distillab.config import build
from distillab.distributed import say, warn
from distillab.files import file_hash, replacing, writable, write_json
from distillab.schemes.members import LISTS, with_members
from distillab.startup import import_quietly
from distillab.tracking import loggers
from distillab.tracking.result import SCHEMA, config_hash, gain_and_gap, versions
from distillab.tracking.show import show
from distillab.tracking.table import models_line

RUNS = "paths.runs=…"


class Clock:
    """Seconds by part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def all(self) -> dict[str, float]:
        """The parts and the total so far."""
        return self.seconds | {"total": time.perf_counter() - self.started}


def run(
    config: dict[str, Any], label: str, command: str = "", overrides: list[str] | None = None, group: str | None = None
) -> dict[str, Any]:
    """Teacher, baseline and student, from a resolved config to a result that is written and shown.

    Args:
        config: resolved, plain Python.
        label: the strategy's name.
        command: what the person typed.
        overrides: what differs from the defaults.
        group: what the runs of a sweep have in common.

    Returns:
        The result, as in result.json.

    Raises:
        UserError: anything that the person can mend.
    """
    clock = Clock()
    config = with_members(config)
    directory = home(config)
    earlier = finished(directory)
    if earlier and not config["rerun"]:
        say(f"this run was finished on {earlier['created'][:10]}; rerun=true repeats it")
        if group is None:  # a sweep's own table shows it
            show(earlier, directory)
        return earlier
    with clock.part("import"):
        import_quietly(config["trainer"])
    if config["rerun"] and distributed.rank == 0:
        shutil.rmtree(directory, ignore_errors=True)
    distributed.barrier()
    about = {
        "schema": SCHEMA,
        "status": "finished",
        "name": config["name"],
        "command": command,
        "overrides": overrides or [],
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
            _write_config(directory, config)
            shown = f"{config['name']}/{label}/{directory.name}"
            logger = loggers.build(config["logger"], directory, config, shown, group)
        result = about | _distil(config, label, directory, clock, logger)
        result |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": clock.all()}
        if distributed.rank == 0:
            with writable(directory, RUNS):
                write_json(directory / "result.json", result)
            loggers.log_summary(logger, result)
        exit_code = 0
    finally:
        where = loggers.finish(logger, exit_code)
    show(result, directory)
    if where:
        say(f"W&B: {where}")
    distributed.barrier()
    return result


def _distil(config: dict[str, Any], label: str, directory: Path, clock: Clock, logger: Any) -> dict[str, Any]:
    """The steps themselves: data, models, teacher, baseline, student, judgement."""
    from distillab.dot import check_kinds
    from distillab.evaluation.efficiency import measure
    from distillab.export import save_model
    from distillab.fit import fit
    from distillab.optim import Recipe
    from distillab.schemes.base import Run
    from distillab.strategies.strategy import Strategy
    from distillab.teachers import trained
    from distillab.teachers.cached import attach
    from distillab.teachers.store import Store

    # What can be refused is refused before anything is trained.
    recipe, seed = Recipe.of(config["recipe"]), config["seed"]
    Recipe.of(config["teacher"]["recipe"], "teacher.recipe")
    strategy = Strategy.of(config.get("strategy"))
    strategy.plan(recipe.epochs)
    check_kinds(recipe.optimizer, strategy)
    scheme = build(config["scheme"], "scheme")
    protocol = build(config["protocol"], "protocol")
    with clock.part("data"):
        data = build(config["data"], "data")
        strategy.check_mixed(data.mixes)
        data.prepare()
    spec = data.spec
    ready = data.configure(recipe.batch_size, seed, strategy.views, watch=protocol.watches)
    setting = trained.Setting(Store(config["paths"]["store"]), protocol, config["trainer"])
    this = Run(config, data, recipe, strategy, setting)
    student = this.student()
    strategy.connect(student.spec, scheme.prepare(this, student), seed)
    teacher = scheme.model
    say(models_line(student, teacher))

    records: dict[str, Any] = {"teacher": None, "baseline": None}
    with clock.part("teacher"):
        records["teacher"] = scheme.obtain(this)
    if scheme.name != "offline":
        say(f"{student.spec.name} learns from {scheme.parent} (scheme={scheme.name})")
    alone = config["strategy"] == trained.ALONE
    if config["baseline"] and not alone:
        with clock.part("baseline"):
            records["baseline"] = this.train_student_alone(this.student())
            _warn_if_below(records, student.spec.name)
    with clock.part("fit"):
        title = f"{student.spec.name} {label}" + (f" ({scheme.name})" if scheme.name != "offline" else "")
        if alone:
            records["student"] = this.train_student_alone(student, logger, title)
        else:
            module = scheme.module(this, student)
            attach(module, ready, config, Path(config["paths"]["store"]) / "cache")
            place = directory / "checkpoints"
            records["student"] = fit(module, ready, recipe, protocol, config["trainer"], place, title, logger)
    if distributed.rank != 0:
        return {"student": records["student"]}

    with clock.part("evaluation"):
        deployed = student if alone else module.deployed()
        if not alone:
            records["student"]["top1"] = this.accuracy(deployed)
        scheme.finish(this, student, records["student"])
        with writable(directory, RUNS):
            save_model(student, directory / "student.safetensors", config["student"], spec.classes, deployed)
        costs = {"student": measure(deployed, student.input_shape, setting.device)}
        costs["baseline"] = (
            costs["student"] if deployed is student else measure(student, student.input_shape, setting.device)
        )
        costs["teacher"] = measure(teacher, teacher.input_shape, setting.device) if teacher is not None else {}
    named = {"teacher": teacher, "baseline": student, "student": student}
    models = {
        role: record and _model_entry(named[role].spec.name, record, costs[role]) for role, record in records.items()
    }
    figures = [models[role] and models[role]["top1"] for role in ("student", "baseline", "teacher")]
    gain, gap_closed = gain_and_gap(*figures)
    sizes = {"name": spec.name, "classes": len(spec.classes), "class_names": list(spec.classes), **data.sizes}
    about = {"scheme": scheme.name, "lineage": scheme.lineage}
    about["cache"] = None if alone or module.cache is None else module.cache.record
    return models | {"gain": gain, "gap_closed": gap_closed, "data": sizes} | about


def _model_entry(name: str, record: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """A model's part of the result: `top1` is on the test images, `top1_validation` beside it."""
    top1 = record["top1"]
    rest = {key: value for key, value in record.items() if key != "top1"}
    return {"name": name, "top1": top1["test"], "top1_validation": top1.get("validation"), **costs, **rest}


def _warn_if_below(records: Mapping[str, Any], student: str) -> None:
    """Say so when the teacher knows no more than the student alone."""
    if records["teacher"] is None or distributed.rank != 0:
        return
    split, alone = next(iter(records["baseline"]["top1"].items()))
    above = records["teacher"]["top1"][split]
    if above <= alone:
        warn(
            f"the teacher ({100 * above:.2f} % on {split}) is no better than {student} alone ({100 * alone:.2f} %): "
            f"there is little to distil; a larger teacher=… or more teacher.recipe.epochs may help"
        )


def _with_contents(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the content of its checkpoint files in place of where they lie."""

    def seen(network: Mapping[str, Any]) -> Mapping[str, Any]:
        path = network.get("checkpoint")
        return {**network, "checkpoint": file_hash(path)} if path and Path(path).is_file() else network

    scheme = config["scheme"]
    named = {key: [seen(network) for network in scheme[key]] for key in LISTS if scheme.get(key)}
    roles = {role: seen(config[role]) for role in ("student", "teacher")}
    return {**config, **roles, "scheme": scheme | named}


def home(config: Mapping[str, Any]) -> Path:
    """Where the run of a resolved config lies: `runs/<name>/<config hash>/`."""
    return Path(config["paths"]["runs"]) / str(config["name"]) / config_hash(_with_contents(with_members(config)))


def finished(directory: Path) -> dict[str, Any] | None:
    """The result of a run that has ended there, or None."""
    with suppress(OSError, ValueError):
        result = json.loads((directory / "result.json").read_text())
        return result if result.get("schema") == SCHEMA else None
    return None


def _write_config(directory: Path, config: Mapping[str, Any]) -> None:
    from omegaconf import OmegaConf

    with writable(directory, RUNS), replacing(directory / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
