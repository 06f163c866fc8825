"""DeiT: a token of its own learns what the teacher finds most likely (Touvron et al., arXiv 2012.12877)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.parts.logits import mean_of_rows, widened

__all__ = ["hard_distillation"]

WITH_TOKEN = ", ".join(f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base"))


@mean_of_rows(positive=())
def hard_distillation(s: Tensor, t: Tensor) -> Tensor:
    """−log softmax(s)[argmax t] of logits (N, C), mean over N: the teacher's first class as a label (arXiv 2012.12877)."""
    s, t = widened(s, t)
    return F.cross_entropy(s, t.argmax(-1), reduction="none")


class ClassToken(CrossEntropy):
    """Cross-entropy of the class token's logits with the true labels, or with shares of classes (mixed samples)."""

    needs = ("student.token_logits", "batch.labels")
    soft_labels = True
    weight: Scheduled = 0.5

    def connect(self, student: FeatureInfo, teacher: FeatureInfo | None) -> None:
        """Refuse a student without a distillation token."""
        check_token(student)
        super().connect(student, teacher)

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """Each sample's cross-entropy, (N,)."""
        return self.rows(student.token_logits[0], None, batch.labels)


class DistillationToken(Term):
    """The term of `hard_distillation` on the distillation token's logits.

    The student must be a transformer with such a token, whose output is the mean of both tokens': timm's distilled
    architectures, or a network of the user's whose two heads are called `head` and `head_dist`, as DeiT's are.
    """

    needs = ("student.logits", "student.token_logits", "teacher.logits")
    rowwise = True
    largest = 1
    weight: Scheduled = 0.5

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Refuse a student without a distillation token."""
        check_token(student)
        self.student_name = student.name

    def feature_rows(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """Each sample's loss, (N,); in the trial before the first step a student of another output is refused."""
        if not self.training:
            mean = sum(student.token_logits) / 2
            if not (mean - student.logits).abs().max() <= 1e-3 + 1e-2 * mean.abs().max():
                raise UserError(
                    f"the output of {self.student_name} is not the mean of its class token's and distillation token's, as "
                    f"DeiT's is; let it return (head + head_dist) / 2, or choose strategy=kd"
                )
        return hard_distillation.rows(student.token_logits[1], teacher.logits)


def check_token(student: FeatureInfo) -> None:
    """Refuse a student without a distillation token."""
    if student.token_heads is None:
        raise UserError(
            f"{student.name} has no distillation token; choose a student that has one, student=timm "
            f"student.architecture=… ({WITH_TOKEN}), or strategy=kd"
        )
