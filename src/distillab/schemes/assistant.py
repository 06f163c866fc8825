"""Networks of decreasing size between a large teacher and a small student."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_warn
from distillab.evaluation.efficiency import parameters
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import Run, networks
from distillab.schemes.plan import Plan, Step
from distillab.schemes.record import Record


class Assistant(Plan):
    """Teacher → assistants → student, each taught by the one before (TAKD, arXiv 1902.03393).

    The assistants use the student's recipe, strategy and data, and the teacher's seed, so that a study of the
    student's seeds has one chain. `assistants` are their configs, the largest first; UserError where there is none.
    """

    name = "assistant"
    has_teacher = True

    def __init__(self, assistants: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        if not assistants:
            raise UserError("scheme.assistants is empty; name at least one, e.g. scheme.assistants=[resnet14]")
        self.assistants = assistants

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build all networks; warn if one is not smaller than the one before it."""
        spec = super().prepare(run, student)
        for larger, smaller in pairwise([*(step.model for step in self.steps), student]):
            if parameters(larger) <= parameters(smaller):
                rank_zero_warn(
                    f"{smaller.info.name} ({parameters(smaller):,} parameters) is not smaller than "
                    f"{larger.info.name} ({parameters(larger):,}), which teaches it; scheme.assistants=[…] names others"
                )
        return spec

    def chain(self, run: Run) -> list[Step]:
        """The config's teacher and the assistants."""
        self.model, teacher = run.teacher(), run.config.teacher
        steps = [Step(self.model.info.name, self.model, teacher, teacher.seed)]
        for i, config in enumerate(networks(self.assistants, "scheme.assistants")):
            seed = teacher.seed if config.seed is None else config.seed
            model = run.network(config, f"scheme.assistants.{i}", seed)
            steps.append(Step(model.info.name, model, config, seed))
        return steps

    def obtain_first(self, run: Run, model: Model) -> Record:
        """Train or load the teacher."""
        return run.obtain_teacher(model, run.config.teacher)
