"""Lets a language model write: tokens drawn from its own distribution, one after the other, for all rows of a batch."""

from inspect import signature

import torch
from torch import Tensor

from distillab.models.causal_lm import CausalLM
from distillab.models.logit_rows import drawn
from distillab.models.model import placed
from distillab.models.packing import cut, packed
from distillab.models.trace import evaluation_mode


@torch.no_grad()
def write(
    model: CausalLM, ids: Tensor, documents: Tensor, *, start: Tensor, draws: Tensor, ends: Tensor, temperature: float
) -> Tensor:
    """Ids (N, L) whose tokens from `start` (N,) on are the model's own; what follows an end of its text is 0.

    Tokens before `start` are read as they are, in their `documents` (N, L), and what is written goes on with the document of
    the token before it; a `start` of L writes nothing. `draws` (N, L) from [0, 1) choose each token by the inverse of the
    distribution function of softmax(logits / temperature); one of `ends` (e,) ends a text. Keys and values of what was
    read are kept, in evaluation mode.
    """
    from transformers import DynamicCache

    length, device = ids.shape[1], ids.device
    place = torch.arange(length, device=device)
    ids = torch.where(place < start[:, None], ids, 0)
    last = documents.gather(1, (start - 1).clamp(min=0)[:, None])
    mask, positions = packed(
        torch.where(place < start[:, None], documents, last), model.held_in or placed(model.net)[1], model.net.config
    )
    ended = torch.zeros(len(ids), dtype=torch.bool, device=device)
    named = (
        "cache" if "cache" in signature(model.net.forward).parameters else "past_key_values"
    )  # before transformers 5.24
    kept, read = {named: DynamicCache()}, 0  # of all positions, also where a model looks back a little way alone
    with evaluation_mode(model), model.autocast(device):
        for now in range(int(start.min()), length):
            if bool((ended | (start >= length)).all()):
                break
            some = slice(read, now)
            out = model.net(
                input_ids=ids[:, some],
                attention_mask=cut(mask, some, slice(now)),
                position_ids=positions[:, some],
                use_cache=True,
                **kept,
            )
            read = now
            token = drawn(out.logits[:, -1, : model.vocabulary] / temperature, draws[:, now, None]).squeeze(1)
            writing = (start <= now) & ~ended
            ids[:, now] = torch.where(writing, token, ids[:, now])
            ended |= writing & torch.isin(token, ends)
    return ids
