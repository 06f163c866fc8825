"""What a loader yields and a step reads, whatever a sample is."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

AS_STORED = -1  # the view number of samples that no augmentation has changed
IGNORED = -100  # the label of a position that no loss counts
ALIGNMENTS = ("boundaries", "positions")  # ways to pair the tokens of two tokenizers

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Writing:
    """That the student writes a share of the batches itself, behind a prompt of so many tokens, up to one of `ends`."""

    share: float
    prompt: int
    ends: tuple[int, ...]


@dataclass
class Batch:
    """One batch of N samples, seen in one or more views."""

    inputs: list[Inputs]  # per view the keyword arguments of a model, the weak view first
    # By name; `labels` are (N, …) int64, or shares of the classes (N, classes) once samples are mixed. `written`, bool (N,)
    # or (N, L), is True where the student wrote the text; without it nowhere.
    targets: Inputs
    index: Tensor  # (N,) int64, each sample's place in its split; -1 where the loader does not know it
    view_number: int = AS_STORED  # of all of them; `AS_STORED` in evaluation
    step_rows: int | None = None  # labels to learn from in the whole optimiser step on this device; None: this batch's
    step_labels: Tensor | None = None  # those of the whole optimiser step on this device; None: this batch's
    host_index: Tensor | None = None  # (N,) in the host's memory: reading it off a GPU waits for all its work
    # What the teacher reads in place of `inputs`, where it has another tokenizer. `targets["pairs"]`, (N, L, ways), is then
    # for each position of the student the teacher's in the same block, by each of `ALIGNMENTS`, and below 0 where it has none.
    teacher_inputs: list[Inputs] | None = None
    step_pairs: Tensor | None = None  # (ways,) as `paired`, of the whole optimiser step; None: this batch's

    @property
    def labels(self) -> Tensor:
        """The labels, (N, …)."""
        return self.targets["labels"]

    @property
    def rows(self) -> int:
        """How many labels there are to learn from."""
        labels = self.targets.get("labels", self.index)
        return len(labels) if labels.is_floating_point() else int((labels != IGNORED).sum())

    @property
    def paired(self) -> Tensor | None:
        """(ways,) how many labels stand at a position that has a partner in the teacher's tokens; None with one tokenizer."""
        pairs = self.targets.get("pairs")
        return None if pairs is None else (pairs >= 0)[self.labels != IGNORED].sum(0)

    @property
    def places(self) -> np.ndarray:
        """(N,) `index` for the host."""
        return (self.index.cpu() if self.host_index is None else self.host_index).numpy()

    def to(self, device: torch.device | str) -> Self:
        """The same on a device; the host does not wait until it is there."""
        device = torch.device(device)
        names = ("inputs", "targets", "index") + (() if self.teacher_inputs is None else ("teacher_inputs",))
        moved: dict[str, Any] = {name: sent(getattr(self, name), device) for name in names}
        return replace(self, **moved, host_index=self.index if self.index.device.type == "cpu" else self.host_index)

    def __len__(self) -> int:
        return len(self.index)


def sent(value: Any, device: torch.device) -> Any:
    """A tensor, or a list or dict of tensors, on a device; out of pinned memory, or CUDA makes the host wait."""
    if isinstance(value, Tensor):
        pinned = device.type == "cuda" and not value.is_cuda
        return value.pin_memory().to(device, non_blocking=True) if pinned else value.to(device)
    if isinstance(value, dict):
        return {name: sent(inner, device) for name, inner in value.items()}
    return [sent(inner, device) for inner in value]
