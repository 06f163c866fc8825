"""Several frozen teachers as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.schemes.measure import measure
from distillab.schemes.record import Record
from distillab.teachers.base import TeacherSource, refuse_beyond_logits
from distillab.teachers.ensemble import EnsembleTeacher, Mixture

SHARED = ("recipe", "seed", "samples", "labelled", "dtype")  # keys that further teachers take from the first


class Ensemble(Scheme):
    """A mixture of the config's teacher and further ones, each trained or loaded like it; UserError without any.

    Of `teachers`, those that repeat one get a seed of their own; `weighting` is that of `teachers.ensemble.Mixture`.
    """

    name = "ensemble"
    has_teacher = True

    def __init__(self, teachers: Sequence[Mapping[str, Any]], weighting: str = "mean") -> None:
        super().__init__()
        if not teachers:
            raise UserError("an ensemble takes more than one teacher; name further ones, scheme.teachers=[resnet20]")
        self.teachers, self.weighting = teachers, weighting

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build all teachers."""
        self.check(run, unlabelled="scheme.weighting=confidence reads them" if self.weighting == "confidence" else "")
        first = run.config.teacher
        shared = {key: first.plain[key] for key in SHARED if key in first.plain}
        self.configs, members = [first], [run.teacher()]
        for place, config in enumerate(self.teachers):
            path = f"scheme.teachers.{place}"
            further = ModelConfig.of({**shared, **config}, path)
            while _without_defaults(further) in map(_without_defaults, self.configs):
                further = ModelConfig.of({**further.plain, "seed": further.seed + 1}, path)
            self.configs.append(further)
            members.append(run.network(further, path, further.seed))
        self.model = Mixture(members, self.weighting)
        refuse_beyond_logits(run.strategy.needs("teacher"), "an ensemble")
        return self.model.info

    def obtain(self, run: Run) -> Record:
        """Train or load each, then measure the mixture with equal weights: labels are for the test."""
        members, seconds = list(self.model.members), 0.0
        names = [member.info.name for member in members]
        for name, member, config in zip(names, members, self.configs, strict=True):
            record = run.obtain_teacher(member, config)
            self.note(run, name if names.count(name) == 1 else f"{name} (seed {config.seed})", record, None)
            seconds += record.training.seconds
        self.parent = self.model.info.name
        record = measure(self.model, run.data, run.setting, members)
        rank_zero_print(f"teachers {self.parent} together: {run.setting.words(record.scores)}")
        return record.changed(source=f"mixture, weighting {self.weighting}", seconds=seconds)

    def source(self, student: Model) -> TeacherSource:
        """The mixture."""
        return EnsembleTeacher(self.model)


def _without_defaults(config: ModelConfig) -> dict[str, Any]:
    """Equal for configs that give the same trained network."""
    return {key: value for key, value in config.plain.items() if value not in (None, False)}
