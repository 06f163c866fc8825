"""The same prompts, continued by every role."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from distillab.core.text_parts import Sample
from distillab.evaluation.generation import write
from distillab.models.causal_lm import CausalLM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def samples(
    networks: Mapping[str, CausalLM], prompts: Tensor, tokenizer: "PreTrainedTokenizerBase", *, new: int, seed: int
) -> list[Sample]:
    """Each prompt (N, P) with up to `new` tokens of every role, drawn by the same seed at temperature 1."""
    end = tokenizer.eos_token_id
    told: dict[str, list[str]] = {}
    for role, model in networks.items():
        written = write(model, prompts, new, seed=seed, end=end)[:, prompts.shape[1] :]
        told[role] = tokenizer.batch_decode(written, skip_special_tokens=True)
    begun = tokenizer.batch_decode(prompts, skip_special_tokens=True)
    return [
        Sample(prompt=prompt, continuations={role: texts[place] for role, texts in told.items()})
        for place, prompt in enumerate(begun)
    ]
