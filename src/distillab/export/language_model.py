"""Writes a language model as a folder that transformers, and whatever builds on it, loads without distillab."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

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
