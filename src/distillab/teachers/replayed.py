"""A teacher whose outputs are replayed from memory, to time what a cache would take."""

from types import SimpleNamespace

from distillab.data.batch import Batch
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher


class ReplayedTeacher(CachedTeacher):
    """A cached teacher that runs in every step unless it is `replaying`, and whose cache is never written."""

    replaying = False

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The requested outputs for each view; what it has not seen yet it computes while it replays, too."""
        return super().forward(batch) if self.replaying else FrozenTeacher.forward(self, batch)

    def flush(self) -> None:
        """Publish nothing."""
