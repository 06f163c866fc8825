"""The weights of a network in a hash."""

from typing import Any

import torch
from torch import nn


def add_weights(digest: Any, network: nn.Module, *, without: str | None = None) -> None:
    """Add the names and the bytes of all weights and buffers to a hash of hashlib, but those of the module `without`."""
    for name, tensor in network.state_dict().items():
        if without and name.startswith(f"{without}."):
            continue
        values = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
        digest.update(name.encode() + values.numpy().tobytes())
