"""One experiment, step by step in the order in which the data flows: the only file that knows all the steps."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillab import distributed
from distillab.config import build
from distillab.distributed import say, warn
from distillab.files import file_hash, replacing, writable, write_json
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
    identity = config_hash(_with_contents(config))
    directory = Path(config["paths"]["runs"]) / str(config["name"]) / identity
    finished = _finished(directory)
    if finished and not config["rerun"]:
        say(f"this run was finished on {finished['created'][:10]}; rerun=true repeats it")
        show(finished, directory)
        return finished
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
        "config_hash": identity,
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
            logger = loggers.build(config["logger"], directory, config, f"{config['name']}/{label}/{identity}", group)
        result = about | _distil(config, label, directory, clock, logger)
        result["created"] = datetime.now(UTC).isoformat(timespec="seconds")
        result["seconds"] = clock.all()
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
    from distillab.evaluation.efficiency import measure
    from distillab.export import save_model
    from distillab.fit import fit
    from distillab.models.role import build_model
    from distillab.module import Distillation
    from distillab.optim import Recipe
    from distillab.strategies.strategy import Strategy
    from distillab.teachers import trained
    from distillab.teachers.store import Store

    # What can be refused is refused before anything is trained.
    recipe, seed = Recipe.of(config["recipe"]), config["seed"]
    teacher_recipe = Recipe.of(config["teacher"]["recipe"], "teacher.recipe")
    strategy = Strategy.of(config.get("strategy"))
    strategy.plan(recipe.epochs)
    protocol = build(config["protocol"], "protocol")
    with clock.part("data"):
        data = build(config["data"], "data")
        data.prepare()
    spec = data.spec
    ready = data.configure(recipe.batch_size, seed, strategy.views, watch=protocol.watches)
    common = (spec.classes, (spec.channels, spec.image_size, spec.image_size), spec.mean, spec.std)
    student = build_model(config["student"], "student", *common, seed=seed)
    teacher = None
    if strategy.needs_teacher:
        data.with_samples(config["teacher"]["samples"]).configure(teacher_recipe.batch_size, 0)
        teacher = build_model(config["teacher"], "teacher", *common, seed=config["teacher"]["seed"])
    strategy.connect(student.spec, teacher.spec if teacher is not None else None, seed)
    setting = trained.Setting(Store(config["paths"]["store"]), protocol, config["trainer"])
    say(models_line(student, teacher))

    records: dict[str, Any] = {"teacher": None, "baseline": None}
    if teacher is not None:
        with clock.part("teacher"):
            records["teacher"] = trained.obtain_teacher(teacher, config["teacher"], data, teacher_recipe, setting)
    alone = config["strategy"] == trained.ALONE
    if config["baseline"] and not alone:
        with clock.part("baseline"):
            baseline = build_model(config["student"], "student", *common, seed=seed)
            arguments = (baseline, config["student"], data, recipe, seed, f"{student.spec.name} alone", setting)
            records["baseline"] = trained.train_alone(*arguments)
            _warn_if_below(records, student.spec.name)
    with clock.part("fit"):
        title = f"{student.spec.name} {label}"
        if alone:
            records["student"] = trained.train_alone(
                student, config["student"], data, recipe, seed, title, setting, logger
            )
        else:
            source = build(config["scheme"], "scheme", model=teacher) if teacher is not None else None
            layout = config["trainer"]["channels_last"]
            module = Distillation(student, source, strategy, recipe=recipe, seed=seed, channels_last=layout)
            place = directory / "checkpoints"
            records["student"] = fit(module, ready, recipe, protocol, config["trainer"], place, title, logger)
    if distributed.rank != 0:
        return {"student": records["student"]}

    with clock.part("evaluation"):
        deployed = student if alone else module.deployed()
        if not alone:
            records["student"]["top1"] = trained.accuracy(deployed, data, setting)
        with writable(directory, RUNS):
            save_model(student, directory / "student.safetensors", config["student"], spec.classes)
        costs = {"student": measure(deployed, student.input_shape, setting.device)}
        costs["baseline"] = costs["student"] if deployed is student else measure(student, student.input_shape)
        costs["teacher"] = measure(teacher, teacher.input_shape, setting.device) if teacher is not None else {}
    named = {"teacher": teacher, "baseline": student, "student": student}
    models = {
        role: record and _model_entry(named[role].spec.name, record, costs[role]) for role, record in records.items()
    }
    figures = [models[role] and models[role]["top1"] for role in ("student", "baseline", "teacher")]
    gain, gap_closed = gain_and_gap(*figures)
    sizes = {"name": spec.name, "classes": len(spec.classes), "class_names": list(spec.classes), **data.sizes}
    return models | {"gain": gain, "gap_closed": gap_closed, "data": sizes}


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
    content = dict(config)
    for role in ("student", "teacher"):
        path = config[role].get("checkpoint")
        if path and Path(path).is_file():
            content[role] = config[role] | {"checkpoint": file_hash(path)}
    return content


def _finished(directory: Path) -> dict[str, Any] | None:
    try:
        result = json.loads((directory / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return result if result.get("schema") == SCHEMA else None


def _write_config(directory: Path, config: Mapping[str, Any]) -> None:
    from omegaconf import OmegaConf

    with writable(directory, RUNS), replacing(directory / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
