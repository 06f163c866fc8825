"""A linear head on frozen features: what the features of a network are worth, found in seconds."""

import time

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.data.batch import sent
from distillab.data.labels import UNKNOWN
from distillab.evaluation.metrics import nll_of, top1
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.model import Model
from distillab.models.new_head import Probe
from distillab.models.parts import in_parts
from distillab.models.trace import evaluation_mode
from distillab.training.finite import OTHER_TEACHER, check_rows

DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # half of this times the squared weights is added to the loss
WITHOUT_VALIDATION = 1e-2
STEPS = 100  # of L-BFGS, for each decay; the next one starts from its weights


def fit_head(model: Model, data: LightningDataModule, device: str | torch.device) -> Probe:
    """Fit the head of a network to the labelled training samples; the rest of it stays as it is.

    Raises UserError where the head is no linear layer, no sample has a label, or a feature is not finite.
    """
    head, found = linear_head(model), probe(model, data, device)
    found.put(head)
    return found


def known_embeddings(model: Model, data: LightningDataModule, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """The `embeddings` of the training samples that have a label; UserError where none has."""
    features, labels = embeddings(model, data, "train", device)
    known = labels != UNKNOWN
    if not known.any():
        raise UserError(f"{model.info.name} needs labels for a head, and none is known: data.labelled=0.1")
    return features[known], labels[known]


def probe(
    model: Model,
    data: LightningDataModule,
    device: str | torch.device,
    known: tuple[Tensor, Tensor] | None = None,
) -> Probe:
    """The linear head that fits the labelled training samples, without augmentation; the network is left as it is.

    Logistic regression on the standardised input of the head. Of `DECAYS` the one with the most right on validation is
    taken, where there is validation. `known` are their `known_embeddings`, where these are at hand. Raises UserError as
    `fit_head`.
    """
    started, classes = time.perf_counter(), linear_head(model).out_features
    features, labels = known or known_embeddings(model, data, device)
    mean, spread = features.mean(0), features.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * spread.max(), spread, 1.0)  # a feature that never changes tells nothing
    held_out = embeddings(model, data, "validation", device) if data.sizes["validation"] else None
    weights = torch.zeros(classes, features.shape[1] + 1, device=features.device)
    found: list[tuple[tuple[float, float], float, Tensor]] = []
    for decay in DECAYS if held_out is not None else (WITHOUT_VALIDATION,):
        weights = _regression((features - mean) / spread, labels, weights, decay)
        logits = None if held_out is None else _logits((held_out[0] - mean) / spread, weights)
        right = (
            (0.0, 0.0) if logits is None else (top1(logits, held_out[1]), -nll_of(logits, held_out[1]).mean().item())
        )
        found.append((right, decay, weights))
    _, decay, weights = max(found, key=lambda one: one[0])
    slopes = weights[:, :-1] / spread
    whole = torch.cat([slopes, (weights[:, -1] - slopes @ mean)[:, None]], 1)
    return Probe(whole, len(labels), decay, time.perf_counter() - started)


def linear_head(model: Model) -> nn.Linear:
    """The head of a network, with a bias. Raises UserError where it is no linear layer."""
    path = model.info.head
    head = model.net.get_submodule(path) if path else None
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"{model.info.name} has no linear head that could be fitted ({path or 'none was found'}): name it, e.g. "
            f"teacher.head=fc, or train the whole network with teacher.adapt=all"
        )
    if head.bias is None:
        head.bias = nn.Parameter(torch.zeros(head.out_features).to(head.weight))
    return head


@torch.no_grad()
def embeddings(
    model: Model, data: LightningDataModule, split: str, device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """The input of the head (R, d) in float32 and the labels (R,) of a split, in its order, without augmentation.

    Raises UserError where some are not finite.
    """
    model.to(device)
    extractor, found = FeatureExtractor(model, {"embedding"}), []
    try:
        with evaluation_mode(model):
            for batch in data.evaluation_dataloader(split):
                batch = data.on_after_batch_transfer(batch, 0)
                inputs = sent(batch.inputs[0], torch.device(device))
                read = torch.cat([extractor(**part).embedding for part in in_parts(model, inputs)])
                found.append((read.float(), batch.labels.to(device)))
    finally:
        extractor.remove()
    features, labels = (torch.cat(one) for one in zip(*found, strict=True))
    check_rows(model.info.name, "features of", features, split, OTHER_TEACHER)
    return features, labels


def _logits(features: Tensor, weights: Tensor) -> Tensor:
    """Of features (R, d) and weights (C, d + 1), the last of which are biases."""
    return F.linear(features, weights[:, :-1], weights[:, -1])


def _regression(features: Tensor, labels: Tensor, start: Tensor, decay: float) -> Tensor:
    """The weights (C, d + 1) that minimise the mean cross-entropy and half the decay times the squared weights."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(_logits(features, weights), labels) + 0.5 * decay * weights[:, :-1].square().sum()
        found.backward()
        return found

    with torch.enable_grad():
        optimizer.step(loss)
    return weights.detach()
