"""One result per run: `runs/<name>/<config hash>/result.json`, which every table, plot and report reads."""

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import model_validator

from distillab.core.cost_parts import Cost, Longer
from distillab.core.exports import ExportedFile
from distillab.core.result_parts import (
    AgainstAlone,
    Data,
    Entry,
    Estimate,
    Features,
    Limits,
    Number,
    Paired,
    Part,
    Primary,
    Trained,
)
from distillab.core.run_identity import VARIED, method_name, population, repeating_command
from distillab.core.text_parts import Text

SCHEMA = 2
FINISHED = "finished"  # the status of a run that is not to be made again
Role = Literal["teacher", "baseline", "random", "student"]
ROLES: tuple[Role, ...] = ("teacher", "baseline", "random", "student")


# What a gain may be over, in words.
REFERENCES: dict[Role, str] = {"baseline": "student alone", "random": "random weights with a fitted head"}


def reference_of(roles: Container[str]) -> Role:
    """What the student's gain is over, among the networks that were tested.

    The student alone; where nothing taught the student's head, and one was fitted afterwards, the same student with
    `random` weights and a head that was fitted in the same way.
    """
    return "random" if "random" in roles else "baseline"


class Result(Part):
    """The outcome of a run; a role that it did not have is None."""

    status: str = FINISHED
    name: str
    task: str
    command: str = ""
    overrides: list[str] = []
    config: dict[str, Any] = {}
    config_hash: str
    versions: dict[str, str | None] = {}
    seeds: dict[str, int | None]
    strategy: str
    scheme: str = "offline"
    protocol: str
    primary: Primary
    gain: Number | None = None
    gap_closed: Number | None = None
    teacher: Entry | None = None
    baseline: Entry | None = None
    random: Entry | None = None  # random weights with a head fitted like the student's, where one was fitted afterwards
    student: Entry
    data: Data
    lineage: list[Trained] = []
    cache: dict[str, Any] | None = None
    longer: Longer | None = None
    cost: Cost | None = None
    limits: Limits | None = None
    paired: Paired | None = None
    gap: Estimate | None = None  # the teacher's figure less that of the reference, positive where it is better
    against_alone: AgainstAlone | None = None
    weights: dict[str, str] = {}  # SHA-256 of the student's files by their paths in the run's folder
    exports: list[ExportedFile] = []
    text: Text | None = None
    features: dict[str, Features] | None = None  # by role, and of a `random` student; where no label taught the student
    created: str
    seconds: dict[str, Number] = {}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        name = self.primary.name
        if (value := self.student.metrics.get(name)) != self.primary.value:
            raise ValueError(f"`primary.value` is {self.primary.value!r}, and `student.metrics.{name}` {value!r}")
        for role, entry in self.entries.items():
            if name not in entry.metrics:
                raise ValueError(f"`{role}.metrics.{name}` is missing")
        datetime.fromisoformat(self.created)
        for key in ("data", "teacher", "recipe"):
            if not isinstance(self.config.get(key) or {}, Mapping):
                raise ValueError(f"`config.{key}` is no mapping")
        vary = self.config.get("vary") or []
        if not isinstance(vary, list) or not all(isinstance(name, str) and name in VARIED for name in vary):
            raise ValueError(f"`config.vary` is no list of {', '.join(VARIED)}")
        numbers = {"seed": self.seed, "recipe.epochs": (self.config.get("recipe") or {}).get("epochs")}
        for key, value in numbers.items():
            if not isinstance(value, int | float | None):
                raise ValueError(f"`config.{key}` is no number")
        return self

    def as_json(self) -> dict[str, Any]:
        """The content of result.json: the schema, and the student's metrics at the top too."""
        left_out = {key for key in ("text", "features", "exports", "random") if not getattr(self, key)}
        fields = self.model_dump(exclude=left_out)
        return {"schema": SCHEMA, "primary": fields["primary"], "metrics": fields["student"]["metrics"]} | fields

    def changed(self, **fields: Any) -> Self:
        """The same with other fields, which are checked."""
        return self.model_validate({**dict(self), **fields})

    @property
    def entries(self) -> dict[Role, Entry]:
        """The networks by role, as far as the run had them."""
        return {role: entry for role in ROLES if (entry := getattr(self, role)) is not None}

    @property
    def head_fitted(self) -> bool:
        """Whether nothing taught the student's head, and one was fitted to labelled samples afterwards."""
        return self.random is not None or bool(self.features and self.student.training.source)

    @property
    def reference(self) -> Role:
        """What the gain is over: see `reference_of`. Results of earlier versions may lack it, and then have no gain."""
        return "random" if self.head_fitted else "baseline"

    def score(self, role: Role) -> float | None:
        """The primary figure of a role on test."""
        entry = getattr(self, role)
        return entry and entry.metrics[self.primary.name]

    @property
    def alone(self) -> bool:
        """Whether the student learned without a teacher."""
        return self.strategy == "none"

    @property
    def method(self) -> str:
        """Strategy and scheme."""
        return method_name(self.strategy, self.scheme)

    @property
    def seed(self) -> int | None:
        """The number of the run, which the seeds of its population follow."""
        return self.seeds.get("seed", self.config.get("seed"))

    @property
    def population(self) -> tuple[str, ...]:
        """What runs with other numbers would make anew, by its names in `vary`; a teacher only where there is one."""
        return tuple(name for name in population(self.config) if name != "teacher" or self.teacher is not None)

    @property
    def repeating_command(self) -> str:
        """What to type to make this run again."""
        return repeating_command(self.command, self.overrides)


def gain_and_gap(
    student: float, reference: float | None, teacher: float | None, primary: Primary
) -> tuple[float | None, float | None]:
    """The gain over the reference (positive is better), and the share of the gap to the teacher that it closes.

    All three are primary figures. Without a reference both are None; the share is None, too, where the teacher is not
    above the reference, and reaches 1 where the student equals the teacher.
    """
    if reference is None:
        return None, None
    gain = primary.gain(student, reference)
    gap = None if teacher is None else primary.gain(teacher, reference)
    return gain, gain / gap if gap is not None and gap > 0 else None
