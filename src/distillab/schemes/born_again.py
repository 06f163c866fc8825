"""A network teaches its own next generation."""

from distillab.core.allowed import Range
from distillab.models.model import Model
from distillab.schemes.base import SEED_STEP, Run
from distillab.schemes.plan import Plan, Step
from distillab.schemes.record import Record


class BornAgain(Plan):
    """The student of generation g teaches generation g + 1 of the same architecture (arXiv 1805.04770).

    Generation 0 learns from the labels alone and is the run's baseline; the last generation is the student. Those
    between have seeds of their own. `generations` learn from the one before; UserError where they are not 1 at least.
    """

    name = "born_again"

    def __init__(self, generations: int = 2) -> None:
        super().__init__()
        self.generations = Range(1, whole=True).check(generations, "scheme.generations", 2)

    def chain(self, run: Run) -> list[Step]:
        """Generations 0 to the last but one."""
        steps = []
        for generation in range(self.generations):
            seed = run.config.seed + SEED_STEP * generation
            model = run.student(seed)
            steps.append(Step(f"{model.info.name} generation {generation}", model, run.config.student, seed))
        return steps

    def obtain_first(self, run: Run, model: Model) -> Record:
        """Train or load the baseline."""
        return run.train_student_alone(model)
