"""The steps of one experiment, in the order in which the data flows: prepare, pretrain, fit, evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillab.commands.preflight import preflight
from distillab.commands.run_dir import RUNS
from distillab.core import distributed
from distillab.core.configuration import RunConfig
from distillab.core.distributed import rank_zero_print
from distillab.core.files import writable
from distillab.core.instantiate import build
from distillab.core.result import Role, gain_and_gap
from distillab.core.result_parts import Entry, Longer, Primary
from distillab.core.timer import Timer
from distillab.evaluation.efficiency import measure
from distillab.evaluation.roles import Roles, evaluate_roles, with_extremes, write_predictions
from distillab.export.safetensors import save_model
from distillab.models.model import Model
from distillab.reporting.limits_plot import limits_picture
from distillab.reporting.table import models_line
from distillab.schemes.base import Run, Scheme
from distillab.schemes.cache import cache_layout, with_cache
from distillab.schemes.measure import warn_if_below
from distillab.schemes.pretrain import ALONE
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import Store
from distillab.strategies.strategy import Strategy
from distillab.training import fit as training
from distillab.training.dot import check_kinds
from distillab.training.module import Distillation


@dataclass
class Steps:
    """What the steps of an experiment have made so far.

    Attributes:
        run: the checked parts of the config.
        scheme: who teaches whom.
        student: in the end the distilled one.
        timer: of the parts.
        records: of the networks by role.
        networks: likewise.
        longer: the student alone, trained for equal compute.
        module: what is fitted; None for the student alone.
    """

    run: Run
    scheme: Scheme
    student: Model
    timer: Timer
    records: dict[Role, Record] = field(default_factory=dict)
    networks: dict[Role, Model] = field(default_factory=dict)
    longer: Longer | None = None
    module: Distillation | None = None

    @property
    def alone(self) -> bool:
        """Whether the student learns without a teacher."""
        return self.run.config.strategy == ALONE


def prepare(config: RunConfig, timer: Timer) -> Steps:
    """Build data, strategy, scheme and student, and refuse what cannot work before anything is trained."""
    strategy = Strategy.of(config.strategy)
    strategy.plan(config.recipe.epochs)
    check_kinds(config.recipe.optimizer, strategy)
    scheme = build(config.scheme, "scheme")
    config.protocol.check_data(config.data.get("validation", config.protocol.validation))
    with timer.part("data"):
        data = build(config.data, "data")
        strategy.check_mixed(data.mixes)
        data.prepare()
    task = build(config.task, "task")
    setting = Setting(Store(config.paths.store), config.protocol, config.trainer, task)
    setting.configured(data, config.recipe, config.seed, strategy.num_views)  # refuses what the data cannot give
    run = Run(config, data, strategy, setting)
    student = run.student()
    cache_layout(config, student.info, ())
    strategy.connect(student.info, scheme.prepare(run, student), config.seed)
    steps = Steps(run, scheme, student, timer)
    if not steps.alone:
        preflight(scheme, run, student)
    rank_zero_print(models_line(student, scheme.model))
    return steps


def pretrain(steps: Steps) -> None:
    """Train or load the teacher and the student alone, each once for all runs."""
    run, scheme, config = steps.run, steps.scheme, steps.run.config
    with steps.timer.part("teacher"):
        teacher = scheme.obtain(run)
    if teacher is not None:
        steps.records["teacher"], steps.networks["teacher"] = teacher, scheme.model
    if scheme.name != "offline":
        rank_zero_print(f"{steps.student.info.name} learns from {scheme.parent} (scheme={scheme.name})")
    if steps.alone:
        return
    # Before anything else is trained: the cache may refuse.
    data = run.setting.configured(run.data, run.recipe, run.seed, run.strategy.num_views)
    source = with_cache(scheme.source(steps.student), run.strategy, data, config)
    steps.module = scheme.module(run, steps.student, source)
    if not config.baseline:
        return
    with steps.timer.part("baseline"):
        steps.networks["baseline"] = run.student()
        steps.records["baseline"] = run.train_student_alone(steps.networks["baseline"])
        warn_if_below(teacher, steps.records["baseline"], run.setting, steps.student.info.name)
        if scheme.model is not None and config.equal_compute:
            steps.longer = run.train_student_longer(scheme.live)


def fit(steps: Steps, directory: Path, label: str, logger: Any) -> None:
    """Train the student, or go on where it was stopped; its checkpoints lie in the run's folder."""
    run, scheme, student = steps.run, steps.scheme, steps.student
    with steps.timer.part("fit"):
        title = f"{student.info.name} {label}" + (f" ({scheme.name})" if scheme.name != "offline" else "")
        if steps.module is None:
            steps.records["student"] = run.train_student_alone(student, logger, title=title)
            return
        how = {"recipe": run.recipe, "protocol": run.setting.protocol, "trainer": run.setting.trainer}
        data = run.setting.configured(run.data, run.recipe, run.seed, run.strategy.num_views)
        place = directory / "checkpoints"
        record = Record(training=training.fit(steps.module, data, **how, directory=place, title=title, logger=logger))
        steps.records["student"] = record.changed(views=run.strategy.num_views)
        steps.module.release()


def evaluate(steps: Steps, directory: Path) -> dict[str, Any] | None:
    """Predict the test once with every network, and write what belongs to the student.

    Returns:
        Fields of the result; None in any process but the first.
    """
    if distributed.rank != 0:
        return None
    run, student = steps.run, steps.student
    task, info = run.setting.task, run.data.info
    with steps.timer.part("evaluation"):
        deployed = student if steps.module is None else steps.module.deployed()
        steps.networks["student"] = deployed
        predicted = {role: run.predictions(steps.networks[role], record) for role, record in steps.records.items()}
        logits, labels = {role: rows[0] for role, rows in predicted.items()}, predicted["student"][1]
        found = evaluate_roles(logits, labels, info.classes, task.figures)
        if steps.module is not None:
            scores = run.scores(deployed, predicted["student"])
            steps.records["student"] = steps.records["student"].changed(scores=scores)
        steps.scheme.finish(run, student, steps.records["student"])
        entries = _entries(steps, found)
    with writable(directory, RUNS):
        save_model(student, directory / "student.safetensors", run.config.student.plain, info.classes, deployed)
        write_predictions(directory / "predictions.npz", logits, labels)
        if found.limits:
            limits_picture(found.limits, directory / "limits.png")
    scores = {role: entry.metrics[task.primary] for role, entry in entries.items()}
    source = steps.module and steps.module.teacher  # None, too, where no term reads a teacher
    primary = Primary(name=task.primary, value=scores["student"], higher_is_better=task.higher_is_better)
    gain, gap_closed = gain_and_gap(scores["student"], scores.get("baseline"), scores.get("teacher"), primary)
    return entries | {
        "task": task.name,
        "scheme": steps.scheme.name,
        "primary": primary,
        "gain": gain,
        "gap_closed": gap_closed,
        "data": {"name": info.name, "classes": len(info.classes), "class_names": list(info.classes), **run.data.sizes},
        "lineage": steps.scheme.lineage,
        "cache": source and source.cache_record,
        "longer": steps.longer,
        "limits": found.limits,
        "paired": found.paired,
    }


def _entries(steps: Steps, found: Roles) -> dict[Role, Entry]:
    """The networks' parts of the result."""
    setting, entries = steps.run.setting, {}
    primary, watches_test = setting.task.primary, setting.protocol.watches == "test"
    efficiency = {
        role: measure(steps.networks[role], setting.device)
        for role in steps.records
        if role != "baseline" or steps.networks["student"] is not steps.student  # one network has one latency
    }
    for role, record in steps.records.items():
        metrics = with_extremes(found.metrics[role], record.training.curves if watches_test else [], primary)
        entries[role] = Entry.model_validate(
            {
                "name": (steps.student if role == "student" else steps.networks[role]).info.name,
                "per_class": metrics.pop("per_class", None),
                "metrics": metrics,
                "validation": {primary: record.scores.get("validation")},
                "against_teacher": found.against_teacher.get(role),
                "efficiency": efficiency.get(role, efficiency.get("student")),
                "training": record.training,
            }
        )
    return entries
