"""Reads what a server has scored: a line of JSON for each request, in the form of vLLM or of SGLang.

Both tell of each token of a prompt what was likely in its place, after the tokens before it; of the first token `null`.
vLLM (0.28, `prompt_logprobs`): `{"464": {"logprob": -1.2, "rank": 1, "decoded_token": "The"}, …}`, the k likeliest tokens
and, where it is none of them, the prompt's own. SGLang (0.5.23, `input_top_logprobs`): `[[-1.2, 464, "The"], …]`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distillab.core.errors import UserError, first_few

ABOVE = 1e-3  # how far a log-probability may be above 0, by a rounding
SUM = 0.02  # how far the probabilities of a position may sum to more than 1
FORMS = ("prompt_logprobs", "input_top_logprobs")


class Line(NamedTuple):
    """A line of a file of scores, and where it stands, for messages."""

    where: str
    row: Mapping[str, Any]


class Told(NamedTuple):
    """The largest log-probabilities (l, k) of positions, the largest first, and the tokens that have them."""

    log_p: np.ndarray
    tokens: np.ndarray


def read_scores(path: Path) -> Iterator[Line]:
    """The lines of a file; raises UserError for one that is no JSON object."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield Line(f"{path}, line {number}", _parsed(text, f"{path}, line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"scores: {path} cannot be read ({error}); scores=… names the file that the server's answers are in"
        ) from error


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        half = "a half-written line" if not text.endswith("\n") else "no JSON"
        raise UserError(f"{where} is {half}: delete it, and score its request again") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{where} is no object: it needs id, token_ids, and {' or '.join(FORMS)}")
    return found


def told(line: Line, ids: np.ndarray, *, keep: int, vocabulary: int) -> Told:
    """What a line tells of the tokens `ids` (T,) but the first, the `keep` likeliest (T - 1, keep) at each position.

    Raises UserError for other tokens, fewer positions, fewer than `keep` tokens at one, tokens beyond the `vocabulary`, and
    what are no log-probabilities.
    """
    where, row = line
    if row.get("token_ids") != ids.tolist():
        raise UserError(f"{where}: token_ids are not those of the request {row['id']}: score the requests as they are")
    forms = [name for name in FORMS if row.get(name) is not None]
    if len(forms) != 1:
        keys = first_few([key for key in row if key not in ("id", "token_ids")]) or "nothing else"
        raise UserError(f"{where}: it needs {' or '.join(FORMS)} beside id and token_ids, and has {keys}")
    listed = row[forms[0]]
    if not isinstance(listed, list) or len(listed) != len(ids):
        found = f"{len(listed)} positions" if isinstance(listed, list) else type(listed).__name__
        raise UserError(
            f"{where}: {forms[0]} has {found} for {len(ids)} tokens: all are needed (SGLang: logprob_start_len=0), and "
            f"no token that the server adds (give it token ids, not text)"
        )
    if listed[0] is not None:
        raise UserError(
            f"{where}: {forms[0]} starts with null, as nothing stands before the first token; it starts otherwise"
        )
    read = _vllm if forms[0] == FORMS[0] else _sglang
    found = [_position(read, each, f"{where}, position {place}") for place, each in enumerate(listed[1:], 1)]
    _check_own(line, ids, found)
    return _largest(where, found, keep=keep, vocabulary=vocabulary)


Read = Callable[[Any], tuple[Sequence[float], Sequence[int]]]


def _position(read: Read, given: Any, where: str) -> Told:
    if given is None:
        raise UserError(f"{where} is null: only the first position may be")
    try:
        log_p, tokens = read(given)
        return Told(np.array(log_p, np.float64), np.array(tokens, np.int64))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError):
        raise UserError(
            f"{where} is neither vLLM's {{token: {{logprob: …}}}} nor SGLang's [[logprob, token, text], …]"
        ) from None


def _vllm(given: Any) -> tuple[list[float], list[int]]:
    return [one["logprob"] for one in given.values()], [int(token) for token in given]


def _sglang(given: Any) -> tuple[list[float], list[int]]:
    return [one[0] for one in given], [index(one[1]) for one in given]


def _check_own(line: Line, ids: np.ndarray, found: Sequence[Told]) -> None:
    """Raise UserError where the server scored other tokens: vLLM tells of each prompt's token, SGLang may do so apart."""
    where, row = line
    if row.get(FORMS[0]) is not None:
        lacking = [place for place, each in enumerate(found, 1) if ids[place] not in each.tokens]
    else:
        own = row.get("input_token_logprobs")
        try:
            scored = ids.tolist() if own is None else [one[1] for one in own]
        except (TypeError, IndexError):
            scored = []
        lacking = [] if scored == ids.tolist() else [0]
    if lacking:
        raise UserError(
            f"{where}: at position {lacking[0]} the server has scored another token than the request's: another tokenizer, "
            f"or positions that are shifted"
        )


def _largest(where: str, found: Sequence[Told], *, keep: int, vocabulary: int) -> Told:
    log_p, tokens = np.empty((len(found), keep)), np.empty((len(found), keep), np.int64)
    for place, each in enumerate(found, 1):
        _check(each, f"{where}, position {place}", vocabulary)
        if len(each.tokens) < keep:
            raise UserError(
                f"{where}, position {place} has {len(each.tokens)} tokens and the cache keeps {keep}: "
                f"cache.top_k={len(each.tokens)} or fewer, or more from the server"
            )
        order = np.lexsort((each.tokens, -each.log_p))[:keep]
        log_p[place - 1], tokens[place - 1] = each.log_p[order], each.tokens[order]
    sums = np.exp(log_p).sum(-1)
    if (sums > 1 + SUM).any():
        place = int(sums.argmax())
        raise UserError(
            f"{where}, position {place + 1}: the probabilities sum to {sums[place]:.3g}, above 1; log-probabilities at "
            f"temperature 1 are needed (vLLM: logprobs-mode raw_logprobs)"
        )
    return Told(log_p, tokens)


def _check(each: Told, where: str, vocabulary: int) -> None:
    """Raise UserError for tokens that are not there, or stand twice, and for numbers that are no log-probabilities."""
    beyond = each.tokens[(each.tokens < 0) | (each.tokens >= vocabulary)]
    if len(beyond):
        raise UserError(f"{where}: token {beyond[0]} is none of the tokenizer's {vocabulary:,} (data.tokenizer=…)")
    if len(np.unique(each.tokens)) < len(each.tokens):
        raise UserError(f"{where}: a token stands twice")
    if len(each.log_p) and np.isneginf(each.log_p).all():
        raise UserError(f"{where}: all tokens have a probability of 0")
    wrong = each.log_p[~(each.log_p <= ABOVE)]  # NaN too
    if len(wrong):
        raise UserError(
            f"{where}: {wrong[0]:.4g} is no log-probability, which is 0 at most; logits do not do (vLLM: logprobs-mode raw_logprobs)"
        )
