"""One frozen teacher."""

from distillab.core import distributed
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.adapted import check_head_is_needless
from distillab.schemes.base import Run, Scheme
from distillab.schemes.record import Record
from distillab.teachers.base import TeacherSource
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.sharded import ShardedTeacher, check_shard


class Offline(Scheme):
    """One teacher, trained or loaded beforehand, with fixed weights (arXiv 1503.02531)."""

    name = "offline"
    has_teacher = True

    def prepare(self, run: Run, student: Model) -> FeatureInfo | None:
        """Build the teacher, if any term reads one."""
        if not run.strategy.needs_teacher:
            return None
        check_head_is_needless(run.config.teacher, run.strategy, run.data)
        self.sharded = check_shard(run.config, distributed.world)
        self.model = run.teacher()
        return self.model.info

    def obtain(self, run: Run) -> Record | None:
        """Train or load it."""
        if self.model is None:
            return None
        record = run.obtain_teacher(self.model, run.config.teacher)
        self.parent = self.model.info.name
        self.note(run, self.parent, record, None)
        return record

    def source(self, student: Model) -> TeacherSource | None:
        """The frozen teacher; `teacher.shard` divides it among the devices."""
        if self.model is None:
            return None
        return ShardedTeacher(self.model) if self.sharded else FrozenTeacher(self.model)
