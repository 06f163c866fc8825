"""The interface of every source of teacher outputs."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import nn

from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model


class TeacherSource(nn.Module):
    """A source of teacher outputs: always in eval mode, without gradients."""

    frozen: bool = True  # its weights stay out of checkpoints, since they have their own file
    info: FeatureInfo  # the shapes of its outputs
    replayed: int = 0  # outputs, one per sample and view, that came without running a network

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the parent module does."""
        return super().train(False)

    def setup(self, device: torch.device) -> bool:
        """Prepare for a fit on a device; True asks the caller to move its other parts there."""
        return False

    def request(self, needs: Iterable[str]) -> None:
        """Select the outputs to compute from now on; raises UserError for one it does not have."""
        refuse_beyond_logits(needs, self.info.name)

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The requested outputs for each view of a batch; some sources read its labels too."""
        raise NotImplementedError

    def after_step(self, student: Model) -> None:
        """Update from the student after an optimiser step; a fixed teacher does nothing."""

    def flush(self) -> None:
        """Write pending outputs before a checkpoint is saved."""

    def compile_network(self) -> bool:
        """Run the network through torch.compile from now on; False if there is none to compile."""
        return False

    def teardown(self) -> None:
        """End a fit: a single process can run the teacher again."""

    def release(self) -> None:
        """Remove the hooks from the networks."""

    @property
    def cache_record(self) -> dict[str, Any] | None:
        """Cache figures for the result; None without a cache."""
        return None


def refuse_beyond_logits(needs: Iterable[str], who: str) -> None:
    """Raise UserError if terms read more of a teacher than its logits."""
    if beyond := sorted(set(needs) - {"logits"}):
        raise UserError(
            f"{who} can only give logits, and the strategy reads teacher.{', teacher.'.join(beyond)}; choose one that "
            f"reads logits, e.g. strategy=kd, or scheme=offline"
        )
