"""A strategy: named terms, and the phases in which they act."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from distillab.core.allowed import Choice
from distillab.core.errors import UserError
from distillab.core.instantiate import build, conf_dir, did_you_mean
from distillab.core.recipe import SCHEDULES
from distillab.core.task_numbers import for_task
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import READABLE, Term
from distillab.strategies.phase import Phase, Rate, length

CHOICES = {  # of a phase
    "train": Choice("connectors", "student", "both"),
    "optimizer": Choice("fresh", "keep"),
    "lr": Rate(),
    "schedule": Choice(None, *SCHEDULES),
    "extra": Choice(True, False),
}
MAPS = ("stages", "last_map", "preactivations", "norms", "attentions")  # a model without stages has none of them


class Strategy(nn.Module):
    """Named terms and, where the method has them, phases: mappings of {epochs, terms, train, optimizer, lr, schedule, extra}.

    Without phases all terms act at all times. The epochs of an `extra` phase come before the recipe's; a phase's `lr`, a
    number or one for each optimiser, and its `schedule` stand for the recipe's. A term that no phase names (another method's) acts in the last one that
    trains the student. UserError for no term, one that is no Term, or phases that are ill-formed or leave a term out.
    """

    def __init__(self, terms: Mapping[str, Term], phases: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        if not terms:
            raise UserError("strategy has no term left; choose one, e.g. strategy=kd")
        for name, term in terms.items():
            if not isinstance(term, Term):
                raise UserError(f"strategy.{name} is a {type(term).__name__}, not a distillab.strategies.base.Term")
            if unknown := set(term.needs) - READABLE:
                wrong, readable = (", ".join(sorted(names)) for names in (unknown, READABLE))
                raise UserError(f"strategy.{name} needs {wrong}; readable: {readable}")
        self.terms = nn.ModuleDict(terms)
        self.phases = self._complete([self._checked(phase) for phase in phases]) if phases else None

    @classmethod
    def of(cls, strategy: Self | Mapping[str, Any] | str | Sequence[str], task: str | None = None) -> Self:
        """From the name of a file in conf/strategy or several, a config, ready terms by name, or a Strategy as it is.

        Of a file that has numbers for the `task`, by its name, those are taken.
        """
        if isinstance(strategy, cls):
            return strategy
        if isinstance(strategy, str | list | tuple):
            strategy = shipped([strategy] if isinstance(strategy, str) else strategy, task)
        if not isinstance(strategy, Mapping):
            raise UserError("strategy must be one of the files in conf/strategy, e.g. strategy=kd")
        strategy = for_task(strategy, task)
        nodes = {name: node for name, node in strategy.items() if name != "phases"}
        terms = {k: build(node, f"strategy.{k}") if isinstance(node, Mapping) else node for k, node in nodes.items()}
        return cls(terms, strategy.get("phases"))

    def _checked(self, phase: Mapping[str, Any]) -> dict[str, Any]:
        """A phase with all its keys."""
        keys, names = ("epochs", "terms", *CHOICES), list(self.terms)
        for key, value in phase.items():
            if key not in keys:
                raise UserError(f'strategy.phases: unknown key "{key}" (allowed: {", ".join(keys)})')
            if key in CHOICES:
                CHOICES[key].check(value, f"strategy.phases: {key}")
        for name in phase.get("terms") or ():
            if name not in names:
                known = f"{did_you_mean(name, names)} (terms: {', '.join(names)})"
                raise UserError(f'strategy.phases: no term "{name}"{known}')
        default = {"epochs": None, "train": "both", "optimizer": "fresh", "lr": None, "schedule": None, "extra": False}
        return default | dict(phase) | {"terms": list(phase.get("terms") or names)}

    def _complete(self, phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The phases, with every term in one of them at least, the extra ones first."""
        extra = [phase["extra"] for phase in phases]
        if extra != sorted(extra, reverse=True) or any(p["extra"] and p["epochs"] is None for p in phases):
            raise UserError("strategy.phases: extra ones come before the others, and each has epochs of its own")
        named = {name for phase in phases for name in phase["terms"]}
        if rest := [name for name in self.terms if name not in named]:
            last = next((phase for phase in reversed(phases) if phase["train"] != "connectors"), None)
            if last is None:
                raise UserError(
                    f"strategy.phases never train the student, so that {', '.join(rest)} would do nothing; leave it out "
                    f"with ~strategy.{rest[0]}, or name it in a phase: strategy.phases=[…]"
                )
            last["terms"] += rest
            last["train"] = "both"  # their connectors learn too
        return phases

    def whole(self, epochs: int) -> int:
        """All epochs of a fit whose recipe has so many: those of extra phases come before them."""
        return epochs + sum(length(phase["epochs"], epochs) for phase in self.phases or () if phase["extra"])

    def plan(self, epochs: int) -> list[Phase]:
        """The phases laid out over all epochs of a fit, of which every one needs one; UserError where they do not fit."""
        if not self.phases:
            return [Phase(0, epochs, tuple(self.terms))]
        own = next((n for n in range(epochs, 0, -1) if self.whole(n) <= epochs), 0)  # the recipe's
        lengths = [length(phase["epochs"], own) for phase in self.phases]
        extra = sum(n for n, phase in zip(lengths, self.phases, strict=True) if phase["extra"])
        given, left = sum(n for n in lengths if n is not None) - extra, lengths.count(None)
        own = max(epochs - extra, 0)
        if left > 1 or given + left > own or (not left and given != own):
            beside = f" behind {extra} extra ones" if extra else ""
            raise UserError(
                f"strategy.phases take {given} epochs{' and what is left' if left else ''}{beside}, but recipe.epochs={own}; "
                f"set recipe.epochs, or what recipe.steps are of them, to at least {given + left}"
            )
        plan, start = [], 0
        for phase, epochs_of in zip(self.phases, lengths, strict=True):
            n = own - given if epochs_of is None else epochs_of
            kept = {key: phase[key] for key in ("train", "schedule", "extra")}
            lr = tuple(phase["lr"].items()) if isinstance(phase["lr"], Mapping) else phase["lr"]
            plan.append(Phase(start, n, tuple(phase["terms"]), fresh=phase["optimizer"] == "fresh", lr=lr, **kept))
            start += n
        return plan

    def connect(self, student: FeatureInfo, teacher: FeatureInfo | None, seed: int) -> None:
        """Let every term build its connectors, the same ones for the same seed; UserError where one cannot."""
        if teacher is None and self.needs_teacher:
            wanting = next(name for name, term in self.terms.items() if any("teacher." in need for need in term.needs))
            raise UserError(f"strategy.{wanting} reads a teacher, and there is none; choose one with teacher=…")
        taught = [term for term in self.terms.values() if any("teacher." in need for need in term.needs)]
        equal = not all(term.unequal_outputs for term in taught)
        if teacher is not None and equal and student.outputs != teacher.outputs:
            images = f"{student.name} tells {student.outputs} classes apart and {teacher.name} {teacher.outputs}"
            text = f"{student.name} has {student.outputs} outputs and {teacher.name} {teacher.outputs}"
            raise UserError(
                f"{images}; teacher.classes=[…] names the teacher's outputs"
                if student.positions is None
                else f"{text}; LanguageModeling(vocabulary=…) leaves out those beyond the tokenizer's tokens"
            )
        for role, info in (("student", student), ("teacher", teacher)):
            maps = {f"{role}.{name}" for name in MAPS}
            for name, term in self.terms.items():
                if maps & set(term.needs) and not info.stages:
                    raise UserError(
                        f"strategy.{name} reads feature maps, and {info.name} shows no maps; choose a method on logits, "
                        f"e.g. strategy=kd, or name the modules that give some with {role}.stages=[…]"
                    )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for step in (lambda term: term.connect(student, teacher), lambda term: term.join(dict(self.terms.items()))):
                for name, term in self.terms.items():
                    try:
                        step(term)
                    except UserError as error:
                        raise UserError(f"strategy.{name}: {error}") from error

    def check_batch(self, batch_size: int, devices: int = 1) -> None:
        """Raise UserError where a term cannot learn from so small a global batch."""
        for name, term in self.terms.items():
            least = term.smallest_batch * (1 if term.global_batch else devices)
            if batch_size < least:
                raise UserError(
                    f"strategy.{name} needs batches of at least {least} samples, got {batch_size}: "
                    f"recipe.batch_size={least}, or leave it out with ~strategy.{name}"
                )

    def check_mixed(self, mixed: bool) -> None:
        """Raise UserError where the samples are mixed, and a term cannot take that."""
        for name, term in self.terms.items():
            if mixed and not term.soft_labels:
                raise UserError(
                    f"strategy.{name} takes samples of one class each, and these are mixed: data.augment.mixup=0 "
                    f"data.augment.cutmix=0 (a plain loader: class numbers), or leave it out with ~strategy.{name}"
                )

    def needs(self, role: str) -> frozenset[str]:
        """Names that all terms together read of `student`, `teacher` or `batch`."""
        dotted = (need.split(".") for term in self.terms.values() for need in term.needs)
        return frozenset(name for owner, name in dotted if owner == role)

    @property
    def needing_head(self) -> list[str]:
        """The terms that a teacher without a head cannot serve, by name."""
        return [name for name, term in self.terms.items() if term.needs_head]

    @property
    def num_views(self) -> int:
        """Views of each sample that the most demanding term reads."""
        return max(term.num_views for term in self.terms.values())

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads a teacher."""
        return bool(self.needs("teacher"))


def shipped(names: Sequence[str], task: str | None = None) -> dict[str, Any]:
    """The config of the strategies of these names, merged as the command merges strategy=[kd,hint]; raises UserError."""
    from omegaconf import OmegaConf

    files = {path.stem: path for path in sorted((conf_dir() / "strategy").glob("*.yaml"))}
    for name in names:
        if name not in files:
            known = f"{did_you_mean(name, list(files))} (allowed: {', '.join(files)})"
            raise UserError(f'there is no strategy "{name}"{known}')
    read = [for_task(OmegaConf.to_container(OmegaConf.load(files[name])), task, name) for name in names]
    return OmegaConf.to_container(OmegaConf.merge(*read), resolve=True)
