"""Second ways to the numbers that losses compute: plain loops over numpy arrays, and what is drawn for them."""

import math

import numpy as np
import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: np.ndarray) -> np.ndarray:
    """Rows that sum to 1."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p, q) -> float:
    """KL(p ‖ q) of two lists of probabilities."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def target_and_rest(z: np.ndarray, y: int) -> list[float]:
    """The probability of class `y` in one row of logits, and that of all others."""
    p = softmax(z)
    return [p[y], sum(p[c] for c in range(len(p)) if c != y)]


def deviation(z, less: int) -> float:
    """Standard deviation of a list, divided by its length − `less`."""
    mean = sum(z) / len(z)
    return math.sqrt(sum((x - mean) ** 2 for x in z) / (len(z) - less))


def norm(x) -> float:
    """L2 norm of all entries."""
    return math.sqrt(sum(float(a) ** 2 for a in np.ravel(x)))


def pooled(x: np.ndarray, side: int) -> np.ndarray:
    """Maps (…, H, H) averaged block by block to (…, side, side)."""
    ratio = x.shape[-1] // side
    return x.reshape(*x.shape[:-2], side, ratio, side, ratio).mean((-3, -1))


def mean_of_rows(reference):
    """A reference over a batch (s, t, y, …) from one of a single row."""
    return lambda s, t, **rest: np.mean(
        [
            reference(*row, **{k: v for k, v in rest.items() if k != "y"})
            for row in zip(s, t, *([rest["y"]] if "y" in rest else []), strict=True)
        ]
    )


def second_derivatives(function, x: Tensor) -> Tensor:
    """Of the function's value along ones, by two backward passes."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x)[0]
