"""The interface of every network, whatever its inputs are."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.attention import Attention
from distillab.models.feature_info import FeatureInfo
from distillab.models.logit_rows import LogitRows


def placed(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of a model's first floating-point parameter."""
    floating = (parameter for parameter in model.parameters() if parameter.is_floating_point())
    reference = next(floating, torch.empty(0))
    return reference.device, reference.dtype


class Model(nn.Module):
    """A network and what it looks like from outside."""

    net: nn.Module  # the network itself; its weights are what is saved and exported
    info: FeatureInfo  # its outputs, and the features that can be read on the way
    class_order: Tensor | None  # for each class of the data, the output of `net` that means it; None where they agree
    builder: str | None = None  # dotted name of the class or function that built `net`, where it is known
    origin: str | None = None  # what stands for its weights, of a large frozen model (`folder_identity`)
    new_head: str | None = (
        None  # why its head is a fresh one while the rest has learned elsewhere; None where it is not
    )
    assumed: str | None = None  # which numbers of its images are guessed, as its ready-made weights do not say them
    held_in: torch.dtype | None = None  # in which the network is kept and run; None is the dtype of training

    def __init__(self, class_order: list[int] | None = None) -> None:
        super().__init__()
        order = torch.tensor(class_order) if class_order is not None else None
        # Not persistent: a checkpoint holds the network's own weights only.
        self.register_buffer("class_order", order, persistent=False)

    def forward(self, **inputs: Tensor) -> Tensor:
        """One view of a batch, by the names of `example_inputs` → logits (…, outputs)."""
        raise NotImplementedError

    def outputs(self, **inputs: Tensor) -> Tensor | LogitRows:
        """The same for a step: a model of many outputs may give rows that are computed where they are read."""
        return self(**inputs)

    def attention_tap(self, note: Callable[[nn.Module, Attention], None]) -> AbstractContextManager:
        """A block in which `note` is told what each attention module reads; UserError for a model that shows none."""
        raise UserError(f"{self.info.name} shows no attention; choose a method on logits, e.g. strategy=kd")

    def input_settings(self) -> dict[str, Any]:
        """Settings beside the weights that say what the model expects of its inputs, as JSON has them."""
        return {}

    def example_inputs(self, size: int = 2) -> dict[str, Tensor]:
        """Inputs of so many samples, on the model's device and in its dtype: the same at every call."""
        raise NotImplementedError

    def hold_in(self, dtype: str) -> None:
        """Keep and run the network in bfloat16, float16 or float32; its logits are float32 in any case."""
        self.held_in = getattr(torch, dtype)
        self.net.to(self.held_in)
