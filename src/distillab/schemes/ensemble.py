"""Several frozen teachers that speak with one voice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.feature_info import FeatureInfo
from distillab.models.image_model import ImageModel
from distillab.schemes.base import (
    Run,
    Scheme,
    refuse_beyond_logits,
    refuse_hidden_labels,
    refuse_shard,
    refuse_teacherless,
)
from distillab.schemes.measure import measure_mixture

WEIGHTINGS = ("mean", "confidence")


class EnsembleTeacher(nn.Module):
    """A source of teacher outputs: the mixture of several networks' probabilities (arXiv 1503.02531).

    Its logits are the mixture's log-probabilities. It stays in eval mode, without gradients, out of checkpoints.

    Args:
        members: the networks.
        weighting: `mean`, or `confidence`: each sample weighs a network by the probability that it gives the label.

    Raises:
        UserError: no such weighting, or networks of unequal classes.
    """

    frozen = True

    def __init__(self, members: Sequence[ImageModel], weighting: str = "mean") -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise UserError(f'weighting must be one of {", ".join(WEIGHTINGS)}, got "{weighting}"')
        self.members = nn.ModuleList(members)
        self.weighting = weighting
        specs = [member.info for member in members]
        if len({spec.outputs for spec in specs}) > 1:
            counted = ", ".join(f"{spec.name} {spec.outputs}" for spec in specs)
            raise UserError(f"an ensemble's networks must tell the same classes apart: {counted}")
        self.info = FeatureInfo("+".join(spec.name for spec in specs), (), None, specs[0].outputs, None)
        self.input_shape = members[0].input_shape
        self.train(False)

    def train(self, mode: bool = True) -> EnsembleTeacher:
        """Stay in eval mode, whatever the parent module does."""
        return super().train(False)

    def request(self, needs: Iterable[str]) -> None:
        """Refuse all but logits, the networks' maps having no mean; freeze them, who were free to learn so far."""
        refuse_beyond_logits(frozenset(needs), "an ensemble")
        self.members.requires_grad_(False)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) → log-probabilities (N, classes); without labels each network weighs the same."""
        said = torch.stack([F.log_softmax(member(images).float(), 1) for member in self.members])  # (networks, N, C)
        if self.weighting == "mean" or labels is None:
            weights = said.new_zeros(len(said), 1)
        elif labels.ndim == 2:  # distributions over the classes
            weights = (said * labels).sum(2)
        else:
            weights = said.gather(2, labels.expand(len(said), -1)[..., None])[..., 0]
        return torch.logsumexp(said + F.log_softmax(weights, 0)[..., None], 0)

    @torch.no_grad()
    def outputs(self, views: list[Tensor], labels: Tensor | None = None) -> list:
        """The mixture's logits for each view."""
        return [SimpleNamespace(logits=self(images, labels)) for images in views]

    def after_step(self, student: nn.Module) -> None:
        """Nothing: fixed teachers do not follow the student."""


class Ensemble(Scheme):
    """The config's teacher and further ones, each trained or loaded like it, and mixed.

    Args:
        teachers: configs of the further networks; those that repeat one get a seed of their own.
        weighting: see `EnsembleTeacher`.

    Raises:
        UserError: no further teacher.
    """

    name = "ensemble"

    def __init__(self, teachers: Sequence[Mapping[str, Any]], weighting: str = "mean") -> None:
        super().__init__()
        if not teachers:
            raise UserError("an ensemble takes more than one teacher; name further ones, scheme.teachers=[resnet20]")
        self.teachers, self.weighting = teachers, weighting

    def prepare(self, run: Run, student: ImageModel) -> FeatureInfo:
        """Build all teachers."""
        refuse_teacherless(run, self.name)
        refuse_shard(run, self.name)
        if self.weighting == "confidence":
            refuse_hidden_labels(run, "scheme.weighting=confidence: a weighting by labels")
        first = run.config["teacher"]
        like = {key: first[key] for key in ("recipe", "seed", "samples", "labelled", "dtype") if key in first}
        self.configs = [first]
        for config in self.teachers:
            config = like | config
            while any(_same(config, other) for other in self.configs):
                config = config | {"seed": config["seed"] + 1}
            self.configs.append(config)
        further = enumerate(self.configs[1:])
        members = [run.teacher()] + [run.network(c, f"scheme.teachers.{i}", c["seed"]) for i, c in further]
        self.model = EnsembleTeacher(members, self.weighting)
        refuse_beyond_logits(run.strategy.needs("teacher"), "an ensemble")
        return self.model.info

    def obtain(self, run: Run) -> dict[str, Any]:
        """Train or load each, then judge the mixture (every network weighing the same: a test has no labels to see)."""
        seconds = 0.0
        names = [member.info.name for member in self.model.members]
        for name, member, config in zip(names, self.model.members, self.configs, strict=True):
            record = run.obtain_teacher(member, config)
            self.note(name if names.count(name) == 1 else f"{name} (seed {config['seed']})", record, None)
            seconds += record["seconds"]
        self.parent = self.model.info.name
        record = measure_mixture(self.model, self.model.members, run.data, run.setting)
        return record | {"source": f"mixture, weighting {self.weighting}", "seconds": seconds}

    def source(self, student: ImageModel) -> nn.Module:
        """The mixture."""
        return self.model


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs, defaults left out, give the same trained network."""
    one, other = ({k: v for k, v in c.items() if v not in (None, False)} for c in (one, other))
    return one == other
