"""Proves an exported file of images: its logits on a whole split against the student's, and its speed."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.evaluation import efficiency

if TYPE_CHECKING:  # it brings lightning, which costs seconds
    from lightning import LightningDataModule

# Sums of float32 in another order differ by some 1e-7 of their terms, and through tens of layers by a few 1e-6 of the
# largest logit. A missing normalisation, another interpolation or a wrong weight changes the first two digits.
TOLERANCE = 1e-4
SAME = 0.999  # the share of samples on which a file that computes in the student's own numbers must answer as it does
RUNS, SECONDS = 100, 1.0  # of the timed calls, as for one sample in `efficiency.latency`


class Proof(NamedTuple):
    """The logits of a file (N, classes), their largest difference, the share of the same answers, and the latency."""

    logits: Tensor
    difference: float
    same_answers: float
    latency_ms: float
    latency_spread: float
    threads: int


def prove(answer: Callable[[Tensor], Tensor], data: "LightningDataModule", split: str, expected: Tensor) -> Proof:
    """Run a file on a split, whose logits by the student are `expected`, in the split's order.

    The latency is that of one image, with as many threads as torch has, timed as that of a network is.
    """
    batches = list(decoded(data, split))
    found = torch.cat([answer(pixels) for pixels in batches]).float()
    times, spread = efficiency.steady_timings(
        partial(answer, batches[0][:1].contiguous()), torch.device("cpu"), RUNS, SECONDS
    )
    same = (found.argmax(1) == expected.argmax(1)).double().mean().item()
    apart = (found - expected).abs().max().item()
    return Proof(found, apart, same, 1e3 * float(np.median(times)), spread, torch.get_num_threads())


def check(proof: Proof, expected: Tensor, name: str, *, exact: bool) -> None:
    """Raise UserError where a file is not the student that it is made of; one that is not `exact` must answer at all."""
    scale = max(1.0, expected.abs().max().item())
    if not np.isfinite(proof.difference):
        raise UserError(f"{name} answers with NaN or infinite numbers, and is not kept")
    if exact and not proof.difference <= TOLERANCE * scale:
        what = f"its logits differ by up to {proof.difference:.2g}, and {TOLERANCE * scale:.2g} are allowed"
        raise UserError(f"{name} is not the student that was measured, and is not kept: {what}")
    if exact and proof.same_answers < SAME:
        what = f"it answers alike on {100 * proof.same_answers:.2f} % of the samples, and {100 * SAME:.1f} % are needed"
        raise UserError(f"{name} is not the student that was measured, and is not kept: {what}")


def decoded(data: "LightningDataModule", split: str) -> Iterator[Tensor]:
    """The images of a split in its order, in batches (N, C, H, W) of uint8; UserError for images of other numbers."""
    for batch in data.evaluation_dataloader(split):
        pixels = data.on_after_batch_transfer(batch, 0).inputs[0]["pixels"]
        levels = (pixels * 255).round()
        if (levels / 255 - pixels).abs().max() > 1e-6:
            raise UserError(
                "the images of these data have more than 8 bits, and exported files take uint8: leave it out, export=[]"
            )
        yield levels.to(torch.uint8)
