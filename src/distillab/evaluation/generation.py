"""Text that a language model writes, and how fast it does."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.text_parts import Generation
from distillab.evaluation.efficiency import peak_bytes, steady_timings
from distillab.models.causal_lm import CausalLM
from distillab.models.model import placed
from distillab.models.trace import evaluation_mode

NEW = 64  # tokens of a timed text at most
RUNS = 20  # timed texts at most


def writes(model: object) -> bool:
    """Whether a network can write text: those of transformers can."""
    return isinstance(model, CausalLM) and model.hugging and hasattr(model.net, "generate")


@torch.no_grad()
def write(model: CausalLM, prompts: Tensor, new: int, *, seed: int | None = None, end: int | None = None) -> Tensor:
    """Prompts (N, P) with up to `new` tokens more (N, P + n): the likeliest ones, or with a `seed` drawn from the whole
    distribution at temperature 1.

    A text that `end` has ended is filled up with it. Outputs that stand for no token are never written.
    """
    from transformers import GenerationConfig

    outputs = model.net.get_output_embeddings().weight.shape[0]
    how: dict[str, Any] = {"do_sample": seed is not None, "max_new_tokens": new, "eos_token_id": end}
    if seed is not None:
        how |= {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
    if end is None:
        how["min_new_tokens"] = new  # the model's own config may name an end
    if outputs > model.vocabulary:
        how["suppress_tokens"] = list(range(model.vocabulary, outputs))
    settings = GenerationConfig(pad_token_id=0 if end is None else end, **how)
    prompts = prompts.to(placed(model)[0])
    with torch.random.fork_rng(), evaluation_mode(model):
        torch.manual_seed(seed or 0)
        return model.net.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=settings)


def speed(model: CausalLM, *, seconds: float = 2.0) -> Generation:
    """How fast one text is written where the model lies, by transformers' own loop, in repeated rounds that agree.

    The prompt is the first half of a block. `first_token_ms` is the median of writing one token; `tokens_per_second` the
    tokens of a text over the median time of all of it, the prompt's reading too.
    """
    prompt = max(1, model.length // 2)
    new = max(2, min(model.length - prompt, NEW))
    ids = model.example_inputs(1)["input_ids"][:, :prompt]
    times, spreads = [], []
    for count in (1, new):
        found, spread = steady_timings(partial(write, model, ids, count), placed(model)[0], RUNS, seconds / 2)
        times.append(float(np.median(found)))
        spreads.append(spread)
    return Generation(
        prompt=prompt,
        new=new,
        first_token_ms=1e3 * times[0],
        tokens_per_second=new / times[1],
        spread=max(spreads),
        peak_memory_bytes=peak_bytes(model, partial(write, model, ids, new)),
    )
