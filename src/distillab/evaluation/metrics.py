"""What a trained model answers on a split, and how often it is right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distillab.data.datamodule import ImageData
from distillab.models.spec import evaluation_mode


@torch.no_grad()
def predict(model: nn.Module, data: ImageData, split: str, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in float32 and labels (N,) of a whole split, in the data's order, on the CPU."""
    loader = data.evaluation_dataloader(split)
    model.to(device)
    logits, labels = [], []
    with evaluation_mode(model):
        for batch in loader:
            batch = data.on_after_batch_transfer(batch)
            logits.append(model(batch.views[0].to(device)).float().cpu())
            labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def top1(logits: Tensor, labels: Tensor) -> float:
    """The share of samples whose largest logit is the label's, from 0 to 1."""
    return (logits.argmax(1) == labels).double().mean().item()


def best_class_order(logits: Tensor, labels: Tensor) -> tuple[list[int], float]:
    """Which output would have to mean which class for the most right answers, and the top-1 it would give.

    Returns:
        For each class the output that fits it best (one to one), and the accuracy from 0 to 1.
    """
    from scipy.optimize import linear_sum_assignment

    classes = logits.shape[1]
    pairs = torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes).view(classes, classes)
    rows, columns = linear_sum_assignment(pairs.numpy(), maximize=True)
    return columns.tolist(), pairs[rows, columns].sum().item() / len(labels)
