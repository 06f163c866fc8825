"""Cross-entropy with the true labels."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Term


class CrossEntropy(Term):
    """The task's own loss: what the student would learn from without a teacher."""

    needs = ("student.logits", "batch.labels")
    kind = "task"
    rowwise = True
    soft_labels = True

    def rows(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """Logits (R, C), labels (R,) or (R, C) → (R,)."""
        return F.cross_entropy(student_logits, labels, reduction="none")
