"""Writes a language model as a folder that transformers, and whatever builds on it, loads without distillab."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from distillab.models.model import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save_language_model(model: Model, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> bool:
    """Write config.json, model.safetensors and the tokenizer's files, the folder as a whole; False for other networks."""
    net: nn.Module = model.net
    if not hasattr(net, "save_pretrained"):
        return False
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    ends = tokenizer.eos_token_id
    for settings in (net.config, getattr(net, "generation_config", None)):
        if settings is not None and settings.eos_token_id is None:
            settings.eos_token_id = settings.bos_token_id = ends
    net.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return True
