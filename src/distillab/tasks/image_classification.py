"""What is learned: how a batch is judged, and which figure selects the checkpoint."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy


class Classification(nn.Module):
    """Images with one label each: top-1 accuracy, and the mean cross-entropy beside it.

    Args:
        classes: how many there are.
    """

    monitor = "val/top1"
    mode = "max"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.top1 = MulticlassAccuracy(classes, average="micro")
        self.nll = MeanMetric()

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take in one batch: logits (N, classes), labels (N,)."""
        self.top1.update(logits, labels)
        self.nll.update(F.cross_entropy(logits.float(), labels), weight=len(labels))

    def metrics(self, split: str) -> dict[str, nn.Module]:
        """The figures by the name under which they are logged."""
        return {f"{split}/top1": self.top1, f"{split}/nll": self.nll}
