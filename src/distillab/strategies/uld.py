"""Universal logit distillation: sorted probabilities, for models whose outputs are not the same (arXiv 2402.12030)."""

from torch import Tensor
from torch.nn import functional as F

from distillab.strategies.base import Scheduled
from distillab.strategies.parts.logits import LogitsTerm, mean_of_rows, widened

__all__ = ["uld"]


@mean_of_rows(positive=("temperature",), equal=False)
def uld(s: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · Σ |sort p − sort q|, mean over the batch; the shorter list goes on with zeros (Boizard et al., 2402.12030).

    p = softmax(t / T), q = softmax(s / T) of logits s (N, C), t (N, D): rows go together, outputs need not.
    """
    s, t = widened(s, t)
    q, p = (F.softmax(z / temperature, dim=-1).sort(dim=-1, descending=True).values for z in (s, t))
    more = p.shape[-1] - q.shape[-1]
    return temperature**2 * (F.pad(p, (0, max(-more, 0))) - F.pad(q, (0, max(more, 0)))).abs().sum(-1)


class ULD(LogitsTerm, loss=uld):
    unequal_outputs = True

    weight: Scheduled = 0.5
    temperature: Scheduled = 1.0
