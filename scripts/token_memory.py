"""Peak memory and time of cross-entropy + KL over a large vocabulary: whole logits, chunks of rows, liger-kernel.

python scripts/token_memory.py                # the table of docs/performance.md
python scripts/token_memory.py rows=512 width=256 vocabularies=32000,128000
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.evaluation.efficiency import live_peak
from distillab.models.logit_rows import ProjectedLogits
from distillab.reporting.tables import Table, markdown
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.kd import KD
from distillab.training.term_inputs import sums_of_rows

DEFAULTS = {"rows": "1024", "width": "256", "vocabularies": "32000,128000", "repeats": "3"}


def whole(student: Tensor, teacher: Tensor, heads: list[nn.Linear], labels: Tensor) -> Tensor:
    """All logits of both models at once."""
    own = heads[0](student)
    with torch.no_grad():
        theirs = heads[1](teacher)
    kl = F.kl_div(own.log_softmax(-1), theirs.log_softmax(-1), reduction="sum", log_target=True)
    return 0.5 * F.cross_entropy(own, labels, reduction="sum") + 0.5 * kl


def chunks(student: Tensor, teacher: Tensor, heads: list[nn.Linear], labels: Tensor) -> Tensor:
    """As a run does it."""
    outputs = heads[0].out_features
    with torch.no_grad():
        taught = ProjectedLogits(teacher, heads[1], outputs)
    terms = {"ce": CrossEntropy(1.0), "kd": KD(1.0, temperature=1.0)}
    return 0.5 * sum(sums_of_rows(terms, ProjectedLogits(student, heads[0], outputs), taught, labels).values())


def liger() -> Callable[..., Tensor] | None:
    """The chunked distillation loss of liger-kernel (a JSD, beta 0 is the forward KL), where it is installed."""
    try:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    except ImportError:
        return None
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.5, weight_soft_loss=0.5, beta=0.5, compiled=False)

    def run(student: Tensor, teacher: Tensor, heads: list[nn.Linear], labels: Tensor) -> Tensor:
        return len(labels) * loss(student, heads[0].weight, teacher, heads[1].weight, labels)

    return run


def measured(
    way: Callable[..., Tensor],
    student: Tensor,
    teacher: Tensor,
    heads: list[nn.Linear],
    *,
    labels: Tensor,
    repeats: int,
) -> tuple[int, float]:
    """Peak bytes of a forward and a backward pass, and the median of its seconds."""

    def step() -> None:
        heads[0].zero_grad(set_to_none=True)
        student.grad = None
        way(student, teacher, heads, labels).backward()

    peak = live_peak(step, [*heads[0].parameters(), *heads[1].parameters(), student, teacher])
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return peak, sorted(times)[repeats // 2]


def main(words: list[str]) -> None:
    """Print the table."""
    given = DEFAULTS | dict(word.split("=", 1) for word in words)
    rows, width, repeats = (int(given[key]) for key in ("rows", "width", "repeats"))
    ways = {"whole logits": whole, "distillab, chunks": chunks, "liger-kernel, chunked JSD": liger()}
    lines = []
    for outputs in map(int, given["vocabularies"].split(",")):
        torch.manual_seed(0)
        heads = [nn.Linear(width, outputs, bias=False) for _ in range(2)]
        heads[1].requires_grad_(False)
        student, teacher = torch.randn(rows, width, requires_grad=True), torch.randn(rows, width)
        labels = torch.randint(outputs, (rows,))
        for name, way in ways.items():
            if way is None:
                lines.append([f"{outputs:,}", f"{name} (not installed)", "–", "–"])
            else:
                peak, seconds = measured(way, student, teacher, heads, labels=labels, repeats=repeats)
                lines.append([f"{outputs:,}", name, f"{peak / 2**20:,.0f}", f"{seconds:.2f}"])
    print(f"{rows} rows, width {width}, {torch.get_num_threads()} threads; weights not counted, their gradient is.\n")
    print(markdown(Table(["tokens", "way", "peak MiB", "seconds"], lines)))


if __name__ == "__main__":
    main(sys.argv[1:])
