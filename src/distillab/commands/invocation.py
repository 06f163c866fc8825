"""One run as a command asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.commands.composition import choices
from distillab.commands.members import with_members
from distillab.core.errors import UserError

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig

GROUPS = ("task", "strategy", "student", "teacher", "data", "recipe", "scheme", "protocol", "trainer", "logger")


@dataclass(frozen=True)
class Invocation:
    """A run's config and where it comes from.

    Attributes:
        config: typed.
        label: the strategy's name.
        command: the command line.
        overrides: the words of it that differ from the defaults.
        sweep_folder: of the sweep that the run belongs to; None for a single run.
    """

    config: RunConfig
    label: str
    command: str = ""
    overrides: Sequence[str] = ()
    sweep_folder: Path | None = None


def parse(config: Mapping[str, Any]) -> RunConfig:
    """The typed config of a run, from the resolved one as plain Python.

    Raises:
        UserError: an empty group, an unknown key, or a value that is not allowed.
    """
    from distillab.core.configuration import RunConfig  # pydantic takes time, which --help need not spend

    for group in GROUPS:
        if not isinstance(config.get(group), dict) or not config[group]:
            raise UserError(f"{group} is empty: choose one of {', '.join(choices(group))} with {group}=…")
    return RunConfig.of(with_members(config))
