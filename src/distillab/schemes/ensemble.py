"""Several frozen teachers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme, refuse_hidden_labels, refuse_shard, refuse_teacherless
from distillab.schemes.measure import measure_mixture
from distillab.teachers.base import TeacherSource, refuse_beyond_logits
from distillab.teachers.ensemble import EnsembleTeacher, Mixture


class Ensemble(Scheme):
    """The config's teacher and further ones, each trained or loaded like it, and mixed.

    Args:
        teachers: configs of the further networks; those that repeat one get a seed of their own.
        weighting: see `distillab.teachers.ensemble.Mixture`.

    Raises:
        UserError: no further teacher.
    """

    name = "ensemble"

    def __init__(self, teachers: Sequence[Mapping[str, Any]], weighting: str = "mean") -> None:
        super().__init__()
        if not teachers:
            raise UserError("an ensemble takes more than one teacher; name further ones, scheme.teachers=[resnet20]")
        self.teachers, self.weighting = teachers, weighting

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build all teachers."""
        refuse_teacherless(run, self.name)
        refuse_shard(run, self.name)
        if self.weighting == "confidence":
            refuse_hidden_labels(run, "scheme.weighting=confidence: a weighting by labels")
        first = run.config["teacher"]
        like = {key: first[key] for key in ("recipe", "seed", "samples", "labelled", "dtype") if key in first}
        self.configs = [first]
        for config in self.teachers:
            config = like | config
            while any(_same(config, other) for other in self.configs):
                config = config | {"seed": config["seed"] + 1}
            self.configs.append(config)
        further = enumerate(self.configs[1:])
        members = [run.teacher()] + [run.network(c, f"scheme.teachers.{i}", c["seed"]) for i, c in further]
        self.model = Mixture(members, self.weighting)
        refuse_beyond_logits(run.strategy.needs("teacher"), "an ensemble")
        return self.model.info

    def obtain(self, run: Run) -> dict[str, Any]:
        """Train or load each, then judge the mixture (every network weighing the same: a test has no labels to see)."""
        seconds = 0.0
        names = [member.info.name for member in self.model.members]
        for name, member, config in zip(names, self.model.members, self.configs, strict=True):
            record = run.obtain_teacher(member, config)
            self.note(name if names.count(name) == 1 else f"{name} (seed {config['seed']})", record, None)
            seconds += record["seconds"]
        self.parent = self.model.info.name
        record = measure_mixture(self.model, self.model.members, run.data, run.setting)
        return record | {"source": f"mixture, weighting {self.weighting}", "seconds": seconds}

    def source(self, student: Model) -> TeacherSource:
        """The mixture."""
        return EnsembleTeacher(self.model)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs, defaults left out, give the same trained network."""
    one, other = ({k: v for k, v in c.items() if v not in (None, False)} for c in (one, other))
    return one == other
