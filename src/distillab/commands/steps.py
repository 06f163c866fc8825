"""The steps of one experiment, in the order in which the data flows: prepare, pretrain, fit; `testing` has the last one."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from distillab.commands import exporting
from distillab.commands.exporting import Export
from distillab.commands.invocation import named
from distillab.commands.preflight import preflight
from distillab.core.configuration import RunConfig
from distillab.core.cost_parts import Longer, StepCost
from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.core.output import rank_zero_print
from distillab.core.result import Result, Role
from distillab.core.run_identity import method_name
from distillab.core.timer import Timer
from distillab.data.module import DataModule
from distillab.models.model import Model
from distillab.reporting.run_end import models_line
from distillab.schemes.base import Run, Scheme
from distillab.schemes.cache import cache_layout, with_cache
from distillab.schemes.charge import charge
from distillab.schemes.features import headed, untaught
from distillab.schemes.measure import warn_if_below
from distillab.schemes.pretrain import alone, is_ready_made
from distillab.schemes.record import Record
from distillab.schemes.setting import Setting
from distillab.schemes.store import Store
from distillab.schemes.two_tokenizers import check_tokenizers
from distillab.strategies.strategy import Strategy
from distillab.tasks.base import Task
from distillab.teachers.frozen import FrozenTeacher
from distillab.training import fit as training
from distillab.training.dot import check_kinds
from distillab.training.module import Distillation
from distillab.training.on_policy import check_writing


@dataclass
class Steps:
    """The state of an experiment between its steps: records and networks by role."""

    run: Run
    data: DataModule  # configured for the student's fit
    scheme: Scheme
    student: Model
    timer: Timer
    records: dict[Role, Record] = field(default_factory=dict)
    networks: dict[Role, Model] = field(default_factory=dict)
    step: StepCost | None = None  # what a step of the fit costs; None where that is not charged
    longer: Longer | None = None  # the student alone, trained for the same cost
    module: Distillation | None = None  # what the fit trains; None for strategy=none


class Parts(NamedTuple):
    """What a run is built of, before any data are read."""

    strategy: Strategy
    scheme: Scheme
    data: DataModule
    task: Task


def check(config: RunConfig) -> Parts:
    """Build what needs no data, and refuse what cannot work as far as that shows then, networks too."""
    strategy = Strategy.of(config.strategy)
    if config.recipe.epochs:  # steps are epochs once the data are read
        strategy.plan(strategy.whole(config.recipe.epochs))
    check_kinds(config.recipe.optimizer, strategy)
    config.protocol.check_data(config.data.get("validation", config.protocol.validation))
    parts = Parts(strategy, *(build(getattr(config, name), name) for name in ("scheme", "data", "task")))
    if not isinstance(parts.data, DataModule):
        given = type(parts.data).__name__
        raise UserError(f"data._target_ must name a distillab.data.module.DataModule, got a {given}")
    strategy.check_mixed(parts.data.mixes)
    if config.student.adapt:
        raise UserError(
            "adapt is for a teacher: student.adapt=null; a student with pretrained weights goes on from them anyway"
        )
    networks = {"student": config.student, **dict(named(config))}
    if parts.scheme.has_teacher and strategy.needs_teacher:
        networks["teacher"] = config.teacher
        if "teacher" in config.vary and is_ready_made(config.teacher) and config.teacher.adapt != "all":
            what = "vary names teacher, and this one is trained already, so it is the same in every run"
            raise UserError(
                f"{what}: leave teacher out of vary, or set teacher.checkpoint=null teacher.pretrained=false"
            )
    for path, network in networks.items():
        parts.task.check_model(replace(network, expected_classes=parts.data.expected_classes), path)
    exporting.check_formats(config, parts.task)
    return parts


def prepare(config: RunConfig, parts: Parts, timer: Timer) -> Steps:
    """Read the data, build the student, and refuse what cannot work before anything is trained."""
    strategy, scheme, data, task = parts
    with timer.part("data"):
        data.prepare()
    setting = Setting(Store(config.paths.store), config.protocol, config.trainer, task)
    configured = setting.configured(data, config.recipe, config.seed, strategy.num_views)
    check_tokenizers(config, data, strategy, scheme.name)
    run = Run(config, data, strategy, setting)
    strategy.plan(run.epochs)
    student = run.student()
    own = config.scheme.get("source") == "student"  # of scheme=self: a network, and no smoothed labels
    check_writing(data.writing, student, "offline" if own else scheme.name)
    teacher = scheme.prepare(run, student)
    cache_layout(config, teacher or student.info, strategy)
    strategy.connect(student.info, teacher, config.seed)
    if config.strategy != alone(config.strategy):
        preflight(scheme, run, student)
    if config.export:
        with timer.part("export"):
            exporting.try_out(student, data, config.export)
    rank_zero_print(models_line(student, scheme.model))
    return Steps(run, configured, scheme, student, timer)


def ready(steps: Steps, *, charged: bool = False) -> Record | None:
    """Train or load the teacher, once for all runs, and put the fit together; the teacher's record.

    Where it is to be `charged`, its steps are compared with those of the student alone before that.
    """
    run, scheme, config = steps.run, steps.scheme, steps.run.config
    with steps.timer.part("teacher"):
        teacher = scheme.obtain(run)
    if teacher is not None:
        steps.records["teacher"], steps.networks["teacher"] = teacher, scheme.model
    if scheme.name != "offline":
        rank_zero_print(f"{steps.student.info.name} learns from {scheme.parent} (scheme={scheme.name})")
    if config.strategy != alone(config.strategy):
        # Before anything else is trained: the cache may refuse.
        source = with_cache(scheme.source(steps.student), run.strategy, steps.data, config)
        if charged:
            with steps.timer.part("charge"):
                steps.step = charge(run, scheme, steps.student, steps.data)
        steps.module = scheme.module(run, steps.student, source)
    return teacher


def pretrain(steps: Steps) -> None:
    """Train or load the teacher and the student alone, each once for all runs."""
    run, config = steps.run, steps.run.config
    teacher = ready(steps, charged=config.baseline and config.equal_compute is not False)
    if config.doctor:
        examine(steps)
    if steps.module is None or not config.baseline:
        return
    with steps.timer.part("baseline"):
        steps.networks["baseline"] = run.student()
        steps.records["baseline"] = run.train_student_alone(steps.networks["baseline"])
        labels = run.data.label_source != "none"
        warn_if_below(teacher, steps.records["baseline"], run.setting, steps.student.info, labels=labels)
        if steps.step is not None:
            steps.longer = run.train_student_longer(steps.step)


def examine(steps: Steps, *, whole: bool = False) -> None:
    """Let the doctor look at a language run; UserError for what would go wrong. `whole` prints what is fine too."""
    run, config = steps.run, steps.run.config
    if run.setting.task.name != "causal_lm" or config.teacher.shard:  # too large to be whole on a device
        return
    from distillab.commands.doctor.examination import visit
    from distillab.commands.doctor.examined import Examined
    from distillab.models.causal_lm import CausalLM

    with steps.timer.part("doctor"):
        source = steps.module and steps.module.teacher
        # No average of the student, which knows nothing yet, and no mixture of several.
        teacher = source.model if isinstance(source, FrozenTeacher) and isinstance(source.model, CausalLM) else None
        for part in filter(None, (steps.student, teacher, steps.module)):
            part.to(run.setting.device)
        given = is_ready_made(config.teacher) and not config.teacher.adapt
        ready_made = given and teacher is not None and teacher is steps.scheme.model
        visit(Examined(config, steps.data, steps.student, teacher, steps.module, ready_made), whole=whole)


def fit(steps: Steps, directory: Path, label: str, logger: Any) -> None:
    """Train the student, or go on where it was stopped; its checkpoints lie in the run's folder."""
    run, scheme, student, config = steps.run, steps.scheme, steps.student, steps.run.config
    with steps.timer.part("fit"):
        title = f"{student.info.name} {method_name(label, scheme.name)}"
        if steps.module is None:
            steps.records["student"] = run.train_student_alone(student, logger, title=title)
            return
        protocol = config.protocol
        if run.features_alone:
            protocol = replace(protocol, select="last")
            rank_zero_print(
                f"the head of {student.info.name} learns nothing without labels: val is that of random weights, the last epoch "
                f"counts, and a head is fitted afterwards"
            )
        how = {"recipe": config.recipe, "protocol": protocol, "trainer": config.trainer, "logger": logger}
        found = training.fit(steps.module, steps.data, **how, directory=directory / "checkpoints", title=title)
        steps.records["student"] = Record(training=found).changed(views=run.strategy.num_views)
        steps.module.release()
        if run.features_alone:
            steps.records["student"] = headed(student, steps.records["student"], run.data, run.setting.device)
            steps.networks["random"] = run.student()
            steps.records["random"] = untaught(steps.networks["random"], run.data, run.setting.device)


def export(steps: Steps, result: Result, directory: Path) -> Export:
    """What the files of the trained student are made of."""
    training, data = result.student.training, steps.run.data
    notes = exporting.notes_of(data, training.epoch, training.epochs)
    return Export(steps.networks["student"], data, steps.run.setting.task, directory, notes)
