"""DIST: the student's probabilities correlate with the teacher's, by sample and by class (arXiv 2205.10536)."""

from torch import Tensor

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.parts.features import root
from distillab.strategies.parts.logits import check_logits, widened

__all__ = ["dist"]


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of each row with the same row of the other: (N, C), (N, C) → (N,); 0 where a row is constant."""
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    lengths = root(a.square().sum(-1)) * root(b.square().sum(-1))
    return (a * b).sum(-1) / (lengths + 1e-8)


def dist(s: Tensor, t: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> Tensor:
    """T² · [β · (1 − mean row Pearson) + γ · (1 − mean column Pearson)] (Huang et al., arXiv 2205.10536).

    Rows (the classes of a sample) and columns (the samples of a class) are those of softmax(s / T) and softmax(t / T);
    logits (N, C), N > 1 unless γ is 0, T > 0.
    """
    check_logits(s, t, temperature=temperature)
    if len(s) < 2 and gamma:
        raise UserError(f"s must have 2 rows or more to correlate each class's samples, got {len(s)}; or set gamma=0")
    s, t = widened(s, t)
    q, p = (s / temperature).softmax(-1), (t / temperature).softmax(-1)
    rows, columns = 1 - pearson(q, p).mean(), 1 - pearson(q.T, p.T).mean()
    return temperature**2 * (beta * rows + gamma * columns)


class DIST(Term):
    needs = ("student.logits", "teacher.logits")
    global_batch = True
    weight: Scheduled = 2.0
    beta: Scheduled = 1.0
    gamma: Scheduled = 1.0
    temperature: Scheduled = 4.0

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`dist`; without the part between samples where there is one only: such a last batch must not end a run."""
        gamma = self.gamma if len(student.logits) > 1 else 0.0
        return dist(student.logits, teacher.logits, self.beta, gamma, self.temperature)
