"""What every source of teacher outputs is: the module asks it for a batch, and knows nothing else of it."""

from __future__ import annotations

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
    """A source of teacher outputs: always in eval mode, without gradients.

    Attributes:
        frozen: True where it has its own file, so that checkpoints leave it out.
        info: what the strategy's terms see of it.
        replayed: how many outputs came without running a network, one per sample and view.
    """

    frozen: bool = True
    info: FeatureInfo
    replayed: int = 0

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the parent module does."""
        return super().train(False)

    def setup(self, device: torch.device) -> bool:
        """Get ready for a fit on a device; True where the caller's other parts must lie there from now on."""
        return False

    def request(self, needs: Iterable[str]) -> None:
        """Prepare to give these outputs, and no others from now on; raises UserError where it cannot."""
        refuse_beyond_logits(needs, self.info.name)

    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The requested outputs for each view of a batch; some sources read its labels too."""
        raise NotImplementedError

    def after_step(self, student: Model) -> None:
        """Follow the student after an optimiser step; a fixed teacher does not."""

    def flush(self) -> None:
        """Write what a checkpoint must find published."""

    def compile_network(self) -> bool:
        """Run the network through torch.compile from now on; False where there is none to compile."""
        return False

    def teardown(self) -> None:
        """End a fit: let one process alone ask the teacher again."""

    def release(self) -> None:
        """Take the hooks off the networks, which live on."""

    @property
    def cache_record(self) -> dict[str, Any] | None:
        """What the cache gave and took, for the result; None without one."""
        return None


def refuse_beyond_logits(needs: Iterable[str], who: str) -> None:
    """Raise UserError where terms read more of a teacher than its logits."""
    if beyond := sorted(set(needs) - {"logits"}):
        raise UserError(
            f"{who} has logits alone, and the strategy reads teacher.{', teacher.'.join(beyond)}; choose one that "
            f"reads logits, e.g. strategy=kd, or scheme=offline"
        )
