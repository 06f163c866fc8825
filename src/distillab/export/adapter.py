"""Writes adapters as a file of their own and merged into a plain model, and proves both."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from distillab.core.errors import UserError
from distillab.export.language_model import example_logits, save_language_model, whole_folder
from distillab.models.causal_lm import CausalLM, pretrained_lm
from distillab.models.quiet import without_bars

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

TOLERANCE = 1e-5  # of the largest logit, or of 1


def save_adapter(
    model: CausalLM, adapters: "PeftModel", base: str, tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> tuple[float, float]:
    """Write `folder`/adapter (peft's format) and `folder`/merged (a plain model), each read back and compared.

    `base` is the folder of the model below the adapters. Returns the largest difference of a logit between the adapted
    model and what was read back, of both. Raises UserError where one is above 1e-5 (of the largest logit, if that is
    above 1): then something was written that is not what was trained.
    """
    from peft import PeftModel

    probe = model.example_inputs(2)
    answer = example_logits(model, probe)
    with whole_folder(folder / "adapter") as temporary, without_bars():
        adapters.save_pretrained(temporary)
    again = pretrained_lm(base)
    reloaded = PeftModel.from_pretrained(again, folder / "adapter")
    about = {"vocabulary": model.vocabulary, "length": model.length, "name": model.info.name}
    apart = _checked(answer, example_logits(CausalLM(again, **about), probe), f"{folder}/adapter")
    merged = CausalLM(reloaded.merge_and_unload(), **about)
    save_language_model(merged, tokenizer, folder / "merged")
    plain = CausalLM(pretrained_lm(str(folder / "merged")), **about)
    return apart, _checked(answer, example_logits(plain, probe), f"{folder}/merged")


def _checked(answer: Tensor, other: Tensor, place: str) -> float:
    apart = (answer - other).abs().max().item()
    if not apart <= TOLERANCE * max(1.0, answer.abs().max().item()):
        raise UserError(f"{place} read back answers otherwise than what was trained: logits differ by {apart:.2g}")
    return apart
