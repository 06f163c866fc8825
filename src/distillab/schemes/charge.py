"""Charges a run: measures what a whole step of its fit costs, in steps of the student alone."""

import copy
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from io import StringIO
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from distillab.core import distributed
from distillab.core.cost_parts import StepCost
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import versions
from distillab.data.module import DataModule
from distillab.evaluation.efficiency import counted
from distillab.models.model import Model
from distillab.reporting.cost_words import step_words
from distillab.schemes.base import Run, Scheme
from distillab.schemes.cache import device_kind, replayed
from distillab.schemes.pretrain import NOT_THE_MODEL, alone
from distillab.strategies.phase import Phase
from distillab.teachers.replayed import ReplayedTeacher
from distillab.training import stepwise
from distillab.training.module import Distillation
from distillab.training.stepwise import StepwiseFit, alternate

NOT_THE_STEP = ("split_seed", "view_seed", "cache_dir")  # of the data: other samples, and the same work
OF_THE_STEP = ("batch_size", "accumulate", "optimizer", "precision", "clip")  # of the recipe


class Ratios(NamedTuple):
    """The cost of a step with a live teacher and with replayed outputs, in steps of the student alone, and whence."""

    live: float
    cached: float | None
    multiply_adds: float | None
    seconds: float | None
    rounds: int


def charge(run: Run, scheme: Scheme, student: Model, data: DataModule) -> StepCost:
    """What a step of the run's fit costs, measured once on a machine for all seeds; the store keeps it.

    Whole steps (loading, the teacher's pass, the student's, the terms with all that they train, the optimiser) of the
    fit and of the student alone are taken in turns, on copies that are thrown away: `scheme` and `student` have no hooks
    yet, and all generators are left as they were. `data` are configured for the fit. With `equal_compute=multiply_adds`
    no clock is read.
    """

    def make(folder: Path) -> dict[str, Any]:
        return _measured(run, scheme, student, data).model_dump()

    _, kept, reused = run.setting.store.once("steps", student.info.name, _key(run, data), make)
    found = StepCost.model_validate(kept)
    again = " (measured before)" if reused else ""
    rank_zero_print(f"a step of the fit costs {step_words(found)}{again}")
    return found


def _key(run: Run, data: DataModule) -> dict[str, Any]:
    """What the cost of a step depends on, seeds aside."""
    config = run.config
    kind = device_kind(config.trainer.accelerator)
    recipe = asdict(config.recipe)
    networks = {
        role: {k: v for k, v in getattr(config, role).plain.items() if k not in (*NOT_THE_MODEL, "checkpoint")}
        for role in ("student", "teacher")
    }
    return networks | {
        "by": config.equal_compute,
        "strategy": config.strategy,
        "scheme": config.plain["scheme"],
        "data": {k: v for k, v in config.plain["data"].items() if k not in NOT_THE_STEP},
        "samples": data.sizes["train"],
        "epochs": run.epochs if run.strategy.phases else None,  # what a phase weighs
        "recipe": {name: recipe[name] for name in OF_THE_STEP},
        "cache": [config.cache.dtype, config.cache.top_k, config.cache.draws],
        "device": torch.cuda.get_device_name() if kind == "cuda" else kind,
        "processes": distributed.world,
        "channels_last": config.trainer.channels_last,
        "versions": {name: value for name, value in versions(config.plain).items() if name != "commit"},
    }


def _measured(run: Run, scheme: Scheme, student: Model, data: DataModule) -> StepCost:
    """The mean over the run's steps, each phase by itself."""
    epochs, phases = run.epochs, run.strategy.plan(run.epochs)
    with isolate_rng(), redirect_stdout(StringIO()):  # the fit says its lines again
        each = [_phase(run, scheme, student, data, phase, 1 / len(phases)) for phase in phases]

    def mean(values: list[float | None]) -> float | None:
        known = None not in values
        return sum(p.epochs * v for p, v in zip(phases, values, strict=True)) / epochs if known else None

    live, cached, arithmetic, seconds, rounds = zip(*each, strict=True)
    by = "seconds" if run.config.equal_compute is True else "multiply_adds"
    cost = {"live": mean(live), "cached": mean(cached), "multiply_adds": mean(arithmetic)}
    return StepCost(
        by=by,
        **{name: value and _digits(value) for name, value in cost.items()},
        seconds=mean(seconds),
        rounds=min(rounds),
    )


def _digits(ratio: float) -> float:
    """As many as a measurement has: methods that cost the same then share the student that is trained longer."""
    return round(ratio, 1 if ratio >= 2 else 2)


def _phase(run: Run, scheme: Scheme, student: Model, data: DataModule, phase: Phase, share: float) -> Ratios:
    """The ratios of one phase, in a share of the time."""
    config, setting = run.config, run.setting
    # A teacher that is divided among the devices is too large for a second one.
    kept = {id(scheme.model): scheme.model} if config.teacher.shard else {}
    own, scheme, student = copy.deepcopy(student), *copy.deepcopy((scheme, student), kept)
    run = replace(run, strategy=copy.deepcopy(run.strategy))
    source = scheme.source(student)
    replaying = replayed(source, run.strategy, data, config)
    module = scheme.module(run, student, source if replaying is None else replaying)
    recipe = config.recipe.alone
    baseline = Distillation(own, None, alone(config.strategy), setting.task, recipe=recipe, seed=config.seed)
    labelled = setting.configured(run.data.labelled_only(), recipe, config.seed)
    first = StepwiseFit(baseline, labelled, config.trainer, epochs=run.epochs)
    second = StepwiseFit(module, data, config.trainer, epochs=run.epochs, epoch=phase.start)
    compare = partial(_compare, first, second, replaying, share=share, timed=config.equal_compute is True)
    return first.during(lambda: second.during(compare))


def _compare(
    first: StepwiseFit, second: StepwiseFit, replaying: ReplayedTeacher | None, *, share: float, timed: bool
) -> Ratios:
    """The ratios of two fits whose steps can be taken; `share` is that of the time."""
    ways, shares = _ways(second, replaying)
    ways = {"alone": first.step, **ways}
    work = {name: counted(step) for name, step in ways.items()}  # the first steps, which a clock would not count
    if not timed and not work["alone"]:
        raise UserError("the student's step has no multiply-adds that could be counted: equal_compute=true, or false")
    ratios = {name: work[name] / work["alone"] if work["alone"] else None for name in ways}
    arithmetic = sum(part * ratios[name] for name, part in shares.items()) if work["alone"] else None
    seconds, rounds = None, 0
    if timed:
        found = alternate(ways, seconds=share * stepwise.SECONDS, **_clock(second))
        ratios, seconds, rounds = found.ratios, found.seconds, found.rounds
    live = sum(part * ratios[name] for name, part in shares.items())
    return Ratios(live, ratios.get("cached"), arithmetic, seconds, rounds)


def _ways(
    fit: StepwiseFit, replaying: ReplayedTeacher | None
) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
    """The kinds of steps of a fit by name, and the shares of those that a live teacher has."""
    module, writing = fit.module, fit.module.writing

    def step(replays: bool, writes: bool) -> None:
        if replaying is not None:
            replaying.replaying = replays
        module.writing = replace(writing, share=1.0) if writes else None
        fit.step()

    written = writing.share if writing is not None else 0.0
    shares = {name: part for name, part in (("live", 1 - written), ("written", written)) if part}
    ways = {name: partial(step, False, name == "written") for name in shares}
    if replaying is not None:
        ways["cached"] = partial(step, True, False)
        ways["cached"]()  # it computes what it replays from then on
    return ways, shares


def _clock(fit: StepwiseFit) -> dict[str, Callable]:
    """How a fit's steps are timed, for `alternate`.

    What one thread computes takes its CPU time, of which nothing goes to other programs; several threads wait for each
    other, and a GPU is waited for: then the clock on the wall counts.
    """
    device = fit.module.device
    if device.type != "cpu":
        return {"wait": partial(torch.accelerator.synchronize, device)}
    return {"clock": process_time} if torch.get_num_threads() == 1 else {}
