"""Low-rank adapters inside a language model's linear layers (Hu et al., LoRA, arXiv 2106.09685)."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from distillab.core.errors import UserError
from distillab.models.causal_lm import layer_paths

if TYPE_CHECKING:
    from peft import PeftModel

LINEAR = ("Linear", "Conv1D")  # the latter is GPT-2's, a linear layer with its weight turned over


def add_lora(net: nn.Module, *, rank: int, alpha: float, seed: int) -> "PeftModel":
    """peft's handle on a network whose blocks have adapters from now on; they alone are trained.

    The network itself stays what it is (its layers are replaced in place), and answers as before: an adapter's second
    matrix begins at 0. Raises UserError for a network without linear layers in blocks.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=block_layers(net), task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(net, config)


def block_layers(net: nn.Module) -> list[str]:
    """All linear layers of the blocks: by their last names, which peft looks for, or by their paths where others share one."""
    blocks = tuple(f"{path}." for path in layer_paths(net))
    linear = [path for path, module in net.named_modules() if type(module).__name__ in LINEAR]
    inside = [path for path in linear if path.startswith(blocks)] if blocks else []
    if not inside:
        raise UserError(
            f"{type(net).__name__} has no linear layers in a list of blocks to adapt: lora=null trains it all"
        )
    names = {path.rpartition(".")[2] for path in inside}
    elsewhere = {path.rpartition(".")[2] for path in linear if path not in inside}
    return inside if names & elsewhere else sorted(names)
