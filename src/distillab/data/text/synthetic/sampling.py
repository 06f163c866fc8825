"""Draws tokens from a causal language model: a text is a function of its seed, its row and its prompt, not of its batch.

Written by hand on purpose: `generate` of transformers draws from one generator for the whole batch.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.seeded import Stream, random_bits
from distillab.data.text.synthetic.config import Sampling
from distillab.data.text.synthetic.rows import Report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NO_NUMBERS = "the teacher gives logits that are no numbers; set dtype=float32, or another teacher=…"


@dataclass(frozen=True)
class Limits:
    """What a teacher's tokens are: ids that end a text, the number of ids that the tokenizer knows, the cache's use."""

    ends: tuple[int, ...]
    vocabulary: int
    use_cache: bool = True


@dataclass(frozen=True)
class Drawn:
    """The tokens that were written in a row, the last of which may end the text, and their mean log-probability."""

    ids: list[int]
    ended: bool
    mean_logprob: float  # under the teacher at temperature 1, over all tokens


@torch.inference_mode()
def sample(
    net: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    how: tuple[Sampling, Limits],
    *,
    report: Report = lambda tokens, rows: None,
) -> list[Drawn]:
    """Write on from each prompt of ids, none of them empty; `numbers` (N,) are those of the rows.

    In another batch the logits differ by rounding, hence the text where a draw falls on a rounding error. A row that has
    ended leaves the batch.
    """
    sampling, limits = how
    taken, device = inspect.signature(net.forward).parameters.keys(), next(net.parameters()).device
    home = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    feed, mask = _padded(prompts, device)
    rows, ends = torch.tensor(numbers, device=home), torch.tensor(limits.ends, device=home, dtype=torch.long)
    going = torch.arange(len(prompts), device=home)  # the rows that have not ended
    tokens = torch.full((len(prompts), sampling.max_new_tokens), -1, device=home)
    scores = torch.zeros(len(prompts), dtype=torch.float64, device=home)
    cache = None
    for step in range(sampling.max_new_tokens):
        found = net(**_inputs(taken, feed, mask, cache), use_cache=limits.use_cache)
        logits = found.logits[:, -1, : limits.vocabulary].to(home).double()
        drawn = draw(logits, sampling, step, rows[going])
        tokens[going, step] = drawn
        scores[going] += logits.log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
        report(len(going), 0)
        stay = (~torch.isin(drawn, ends)).nonzero()[:, 0]
        if len(stay) == 0:
            break
        cache = _cache(found, taken) if limits.use_cache else None
        new = drawn.to(device)[:, None]
        if len(stay) < len(going):
            going, stay = going[stay], stay.to(device)
            new, mask, feed = new[stay], mask[stay], feed[stay]
            if cache is not None:
                cache.batch_select_indices(stay)
        mask = torch.cat([mask, torch.ones_like(new)], 1)
        feed = new if limits.use_cache else torch.cat([feed, new], 1)
    report(0, len(prompts))
    return [_drawn(row, score, limits) for row, score in zip(tokens.tolist(), scores.tolist(), strict=True)]


def _drawn(row: list[int], score: float, limits: Limits) -> Drawn:
    ids = [token for token in row if token >= 0]
    return Drawn(ids, ids[-1] in limits.ends, score / len(ids))


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (N, L), padded on the left with 0, and the mask (N, L) of what is no padding."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
    return ids.to(device), mask.to(device)


def _inputs(taken: Collection[str], feed: Tensor, mask: Tensor, cache: Any) -> dict[str, Any]:
    """What the network takes for the next token: positions count from the first token of a row, not from its padding."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -feed.shape[1] :]
    given = {"input_ids": feed, "attention_mask": mask, _cache_name(taken): cache}
    offered = {"position_ids": positions, "logits_to_keep": 1}
    return given | {name: value for name, value in offered.items() if name in taken}


def _cache_name(taken: Collection[str]) -> str:
    return "cache" if "cache" in taken else "past_key_values"  # as before transformers 5.24


def _cache(found: Any, taken: Collection[str]) -> Any:
    """The key-value cache that the network has filled."""
    cache = getattr(found, _cache_name(taken), None)
    if cache is None:
        raise UserError("the teacher keeps no key-value cache; set use_cache=false")
    return cache


@torch.inference_mode()
def prove(net: "PreTrainedModel", limits: Limits, batch_size: int) -> None:
    """Raise UserError where a prompt's padding or the key-value cache changes the logits, as in some recurrent networks."""
    taken, device = inspect.signature(net.forward).parameters.keys(), next(net.parameters()).device
    prompt = [place * limits.vocabulary // 6 for place in range(6)]
    feed, mask = _padded([prompt, [*prompt, *prompt]], device)

    def outputs(rows: slice, start: int, end: int, cache: Any = None) -> Any:
        """Those of the columns that no cache holds, from `start` on; the prompt alone is columns 6 to 12 of row 0."""
        held = end - 1 if cache is not None else start
        given = _inputs(taken, feed[rows, held:end], mask[rows, start:end], cache)
        return net(**given, use_cache=limits.use_cache)

    first = slice(0, 1)
    wanted = outputs(first, 6, 12).logits[0, -1].float()
    if wanted.isnan().any():
        raise UserError(NO_NUMBERS)
    far = 0.05 * (wanted.max() - wanted.min())  # half precision rounds by less
    if batch_size > 1 and (outputs(slice(None), 0, 12).logits[0, -1] - wanted).abs().max() > far:
        raise UserError("the teacher's logits depend on the padding of a batch; set batch_size=1")
    if not limits.use_cache:
        return
    cache = _cache(outputs(first, 6, 9), taken)
    try:
        cache.batch_select_indices(torch.zeros(1, dtype=torch.long, device=device))
        steps = [outputs(first, 6, end, cache) for end in (10, 11, 12)]
        fine = (steps[-1].logits[0, -1] - wanted).abs().max() <= far
    except AttributeError:  # of a cache from which no row can be taken
        fine = False
    if not fine:
        raise UserError("the teacher's key-value cache does not give its logits; set use_cache=false")


def draw(logits: Tensor, sampling: Sampling, step: int, rows: Tensor) -> Tensor:
    """One token for each of the rows (N,): logits (N, V) → (N,); a pure function of seed, step, row and logits.

    The nucleus of `top_p` is found in the order of probability, the token in the order of the vocabulary: two tokens
    that rounding swaps then change nothing.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    mass = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ordered, place = mass.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= sampling.top_p
        mass = mass.masked_fill(torch.zeros_like(outside).scatter(-1, place, outside), 0)
    reached = mass.cumsum(-1)
    # The upper 53 bits as a number in [0, 1); the shift keeps the sign, hence the half.
    share = (random_bits(sampling.seed, step, rows, Stream.WRITTEN) >> 11).double() * 2.0**-53 + 0.5
    found = torch.searchsorted(reached, share[:, None] * reached[:, -1:], right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1)  # only for logits that are no numbers
