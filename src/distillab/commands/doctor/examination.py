"""Runs the checks that suit a run, before its first step or for `distillab doctor`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import torch

from distillab.commands.doctor.examined import Examined, Verdict, logits_alone, refused
from distillab.commands.doctor.loss_checks import LOSS_CHECKS, SOURCE_CHECKS
from distillab.commands.doctor.model_checks import MODEL_CHECKS, TEACHER_CHECKS
from distillab.commands.doctor.text_checks import TEXT_CHECKS
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print, rank_zero_warn
from distillab.models.trace import evaluation_mode
from distillab.teachers.frozen import FrozenTeacher
from distillab.training.module import Distillation

Checks = Mapping[str, Callable[[Examined], Verdict]]


class Finding(NamedTuple):
    """What a check says."""

    check: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.check}: {self.text}"


def checks_of(seen: Examined) -> Checks:
    """The checks that suit a run."""
    chosen = dict(TEXT_CHECKS) | MODEL_CHECKS
    if seen.teacher is not None:
        chosen |= TEACHER_CHECKS
    if type(seen.module) is not Distillation:  # peers have losses of their own
        return chosen
    if seen.rowwise:
        chosen |= LOSS_CHECKS
    source = seen.module.teacher
    if isinstance(source, FrozenTeacher) and source.model is seen.teacher:  # and not a mixture with others
        chosen |= SOURCE_CHECKS
    return chosen


def examine(seen: Examined, checks: Checks | None = None) -> list[Finding]:
    """What each check finds; one that cannot be made is refused, for the fit would fail likewise."""
    found = []
    with _undisturbed(seen):
        for name, check in (checks_of(seen) if checks is None else checks).items():
            try:
                verdict = check(seen)
            except UserError as error:
                verdict = refused(str(error))
            except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
                verdict = refused(f"cannot be checked ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
            found.append(Finding(name, *verdict))
    return found


@contextmanager
def _undisturbed(seen: Examined) -> Iterator[None]:
    """Networks that answer as they are deployed, and are left as they were."""
    module = seen.module
    with torch.random.fork_rng(), evaluation_mode(module or seen.student):
        if type(module) is not Distillation:
            yield
            return
        with logits_alone(module):
            yield


def report(found: list[Finding], seconds: float, *, whole: bool = False) -> None:
    """Print the findings, the `whole` list or what is not fine; raises UserError where one is refused."""
    for each in found:
        if whole:
            rank_zero_print(str(each), result=True)
        elif each.level == "warning":
            rank_zero_warn(f"doctor: {each.check}: {each.text}")
    levels = [each.level for each in found]
    counts = ", ".join(f"{levels.count(level)} {level}" for level in ("fine", "warning", "refused") if level in levels)
    rank_zero_print(f"doctor: {counts} in {seconds:.1f} s (doctor=false leaves it out)", result=whole)
    if bad := [each for each in found if each.level == "refused"]:
        told = (
            ", ".join(each.check for each in bad) if whole else "; ".join(f"{each.check}: {each.text}" for each in bad)
        )
        raise UserError(f"the doctor refuses this run: {told}; doctor=false trains anyway")


def visit(seen: Examined, *, whole: bool = False) -> None:
    """Examine a run and print what is found; UserError where it would be wrong."""
    started = perf_counter()
    found = examine(seen)
    report(found, perf_counter() - started, whole=whole)
