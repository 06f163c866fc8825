"""How a network is trained, and by which rules the trained one is chosen and compared."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Annotated, Any, ClassVar, Self

from pydantic import model_validator

from distillab.core.allowed import Amount, Choice, Count, CountOrNone, Flag, Range
from distillab.core.errors import UserError
from distillab.core.group import Group, group

OPTIMIZERS = ("sgd", "adamw", "dot")
SCHEDULES = ("one_cycle", "cosine", "step", "constant")  # of the learning rate
# Lightning's words for what a fit here can be in; its 16-true and bf16-true would need the data in half precision too.
PRECISION = Choice("32-true", "32", 32, "bf16-mixed", "bf16", "16-mixed", "16", 16, "64-true", "64", 64)


@group
class Recipe(Group):
    """Optimiser, schedule, length and batch: the numbers that only make sense together.

    The length is given in `epochs` or, as an alternative, in optimiser `steps`; these may cut the last epoch.
    """

    PATH: ClassVar[str] = "recipe"
    epochs: CountOrNone = 8
    steps: CountOrNone = None
    batch_size: Count = 64
    optimizer: Annotated[str, Choice(*OPTIMIZERS)] = "adamw"
    lr: Amount = 3e-3
    linear_lr: CountOrNone = None  # samples per step for which `lr` is meant: it is scaled in proportion (1706.02677)
    momentum: Amount = 0.9  # of sgd, and the middle of dot's two (`distillab.training.dot`), `dot_delta` from it
    nesterov: Flag = False
    dot_delta: Amount = 0.075
    weight_decay: Amount = 0.01
    decay_norms: Flag = False
    schedule: Annotated[str, Choice(*SCHEDULES)] = "one_cycle"
    warmup: Annotated[float, Range(0, high=1)] = 0.3  # share of the steps
    milestones: tuple[Amount, ...] = (0.625, 0.75, 0.875)  # shares of the steps after which `gamma` multiplies
    gamma: Amount = 0.1
    clip: Annotated[float | None, Range(above=0, null=True)] = None  # largest gradient norm
    accumulate: Count = 1
    # Epochs without a better validation figure after which the fit stops, from the start of the strategy's last phase.
    patience: Annotated[int | None, Range(0, whole=True, null=True)] = None
    precision: Annotated[int | str, PRECISION] = "32-true"

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """As of every group; a mapping with `steps` needs no word of `epochs`."""
        if isinstance(given, Mapping) and given.get("steps") is not None:
            given = {"epochs": None, **given}
        return super().of(given, path)

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            both = f"{{path}}.epochs={self.epochs} and {{path}}.steps={self.steps} both say how long to train"
            raise ValueError(f"{both}: set {{path}}.epochs=null or {{path}}.steps=null")
        if self.epochs is None and self.steps is None:
            raise ValueError("nothing says how long to train: set {path}.epochs=8, or {path}.steps=1000")
        return self

    @model_validator(mode="after")
    def _check_dot(self) -> Self:
        if self.optimizer != "dot":
            return self
        half = self.precision in (16, "16", "16-mixed") and self.precision
        instead = {"nesterov": (self.nesterov, "false"), "clip": (self.clip, "null"), "precision": (half, "bf16-mixed")}
        for key, (refused, other) in instead.items():
            if refused:
                raise ValueError(f"{{path}}.optimizer=dot takes no {key}={refused}; set {{path}}.{key}={other}")
        if not self.momentum - self.dot_delta >= 0 or not self.momentum + self.dot_delta < 1:
            both = f"{{path}}.momentum={self.momentum:g} minus and plus {{path}}.dot_delta"
            raise ValueError(f"{both} must lie from 0 to below 1, got {{path}}.dot_delta={self.dot_delta:g}")
        return self

    @property
    def peak_lr(self) -> float:
        """The highest learning rate, for the number of samples in an optimiser step."""
        return self.lr if self.linear_lr is None else self.lr * self.batch_size * self.accumulate / self.linear_lr

    @property
    def length(self) -> int:
        """The steps where it counts these, else the epochs."""
        return self.epochs or self.steps

    def lasting(self, length: int) -> Self:
        """The same with another `length`."""
        return replace(self, **{"epochs" if self.epochs else "steps": length})

    def steps_of(self, batches: int) -> int:
        """The optimiser steps of an epoch of so many batches, the last of which may join fewer than `accumulate`."""
        return ceil(batches / self.accumulate)

    def epochs_in(self, batches: int) -> int:
        """The epochs of a fit with so many batches in each; `steps` may cut the last one."""
        return self.epochs or ceil(self.steps / self.steps_of(batches))

    @property
    def alone(self) -> Self:
        """The same without a teacher, where dot is sgd: one gradient, one momentum, no number of dot's."""
        optimizer = "sgd" if self.optimizer == "dot" else self.optimizer
        return replace(self, optimizer=optimizer, dot_delta=Recipe.dot_delta)


@group
class Protocol(Group):
    """The rules of a comparison."""

    PATH: ClassVar[str] = "protocol"
    name: str
    # Share of the training samples carved off to select the checkpoint; 0 trains on all and watches the test samples.
    validation: Annotated[float, Range(0, below=1)]
    select: Annotated[str, Choice("best", "last")] = "best"  # the epoch, on the watched samples

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if self.name == "standard" and not self.validation:
            raise ValueError("standard needs validation samples ({path}.validation=0.1), or choose protocol=paper")
        if self.name == "paper" and self.validation:
            raise ValueError("paper trains on all samples ({path}.validation=0), or choose protocol=standard")
        return self

    def check_data(self, validation: float) -> None:
        """Raise UserError for data that carve off samples under a protocol that trains on all, or the other way round."""
        if bool(validation) != bool(self.validation):
            share = f"{self.validation or 0:g}"
            taken = f"protocol={self.name} takes {share} of the training samples for validation"
            raise UserError(f"{taken} and the data {validation:g}; set data.validation={share}")

    @property
    def watches(self) -> str:
        """The split that is looked at after every epoch."""
        return "validation" if self.validation else "test"
