"""Universal logit distillation: sorted probabilities, for models whose outputs are not the same (arXiv 2402.12030)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.core.allowed import Choice
from distillab.data.batch import ALIGNMENTS
from distillab.models.feature_info import FeatureInfo
from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, mean_of_rows, widened

__all__ = ["uld"]


@mean_of_rows(positive=("temperature",), equal=False)
def uld(s: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · Σ |sort p − sort q|, mean over the batch; the shorter list goes on with zeros (Boizard et al., 2402.12030).

    p = softmax(t / T), q = softmax(s / T) of logits s (N, C), t (N, D): rows go together, outputs need not.
    """
    s, t = widened(s, t)
    q, p = (F.softmax(z / temperature, dim=-1) for z in (s, t))
    most = min(q.shape[-1], p.shape[-1])
    largest_q, largest_p = (z.topk(most).values for z in (q, p))
    # What the longer list has beyond that meets zeros: it counts as a whole, and need not be sorted.
    rest = q.sum(-1) - largest_q.sum(-1) + p.sum(-1) - largest_p.sum(-1)
    return temperature**2 * ((largest_p - largest_q).abs().sum(-1) + rest)


class ULD(LogitsTerm, loss=uld):
    """`align` says which positions of two tokenizers go together.

    With `positions` it is the n-th token of each in the same stretch of text, as in the paper; with `boundaries` those
    behind which both have read the same text.
    """

    unequal_outputs = True

    weight: Scheduled = 0.5
    temperature: Scheduled = 1.0
    align: str = "boundaries"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alignment = Choice(*ALIGNMENTS).check(self.align, "align", "boundaries")

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Note how many outputs are compared one by one."""
        self.largest = min(student.outputs, teacher.outputs)
