"""Writes a language model as a folder that transformers, and whatever builds on it, loads without distillab."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distillab.core.files import readable
from distillab.models.causal_lm import CausalLM, pretrained_lm
from distillab.models.model import Model
from distillab.models.quiet import without_bars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write to; it takes its place at the end, or vanishes if the block fails."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        for file in temporary.rglob("*.*"):
            readable(file)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_language_model(model: Model, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> bool:
    """Write config.json, model.safetensors and the tokenizer's files, the folder as a whole; False for other networks."""
    net: nn.Module = model.net
    if not hasattr(net, "save_pretrained"):
        return False
    ends = tokenizer.eos_token_id
    for settings in (net.config, getattr(net, "generation_config", None)):
        if settings is not None and settings.eos_token_id is None:
            settings.eos_token_id = settings.bos_token_id = ends
    with whole_folder(folder) as temporary, without_bars():
        net.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return True


@torch.no_grad()
def example_logits(model: CausalLM, probe: Mapping[str, Tensor]) -> Tensor:
    """The logits of example blocks, on the CPU, where the model stays, in eval mode."""
    return model.cpu().eval()(**{name: value.cpu() for name, value in probe.items()})


def read_back(model: CausalLM, folder: Path) -> float:
    """The largest difference of a logit between a model and what transformers reads of its folder, on example blocks."""
    other = CausalLM(pretrained_lm(str(folder)), model.vocabulary, model.length, model.info.name)
    probe = model.example_inputs(2)
    return (example_logits(model, probe) - example_logits(other, probe)).abs().max().item()
