"""All that is told of language models beside their metrics, in one part of the result."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distillab.core.output import rank_zero_warn
from distillab.core.text_parts import Acceptance, Generation, Sample, Text
from distillab.data.text.canaries import canaries, insertions
from distillab.evaluation import canaries as planted
from distillab.evaluation import kinds
from distillab.evaluation.acceptance import acceptance
from distillab.evaluation.generation import speed, writes
from distillab.evaluation.samples import samples
from distillab.evaluation.text_roles import bits
from distillab.models.model import Model

if TYPE_CHECKING:
    from distillab.data.text.datamodule import TextData

SEED = 0  # of what is written
DRAFTS = 64  # prompts behind which the student drafts,
DRAFTED = 32  # and tokens behind each
SHOWN, PROMPT, WRITTEN = 3, 16, 32  # samples: how many, and the tokens of prompt and continuation
OTHERS = 1023  # texts that a canary is compared with


def judge(networks: Mapping[str, Model], scores: Mapping[str, Tensor], data: "TextData", device: str) -> Text:
    """The part of the result; networks that cannot write these tokens are judged by their scores alone."""
    vocabulary = data.info.vocabulary
    able = {role: one for role, one in networks.items() if writes(one) and one.vocabulary == vocabulary}
    home = {role: next(model.parameters()).device for role, model in able.items()}
    try:
        for model in able.values():
            model.to(torch.device(device))
        by_kind = kinds.kinds(scores, data.info.documents)
        own = _canaries(able, data)
        found = {role: test for role, rows in scores.items() if (test := bits(rows)) is not None}
        told = kinds.words(by_kind, scores, data.info.documents) + (planted.words(own) if own else [])
        return Text(
            intervals={role: [test.low, test.high] for role, test in found.items()},
            kinds=by_kind,
            acceptance=_acceptance(able, data),
            generation=_generation(able),
            samples=_samples(able, data),
            canaries=own,
            sentences=told,
        )
    finally:
        for role, model in able.items():
            model.to(home[role])


def _acceptance(able: Mapping[str, Model], data: "TextData") -> dict[str, Acceptance]:
    half = max(1, data.length // 2)
    prompts = data.test_blocks.windows(DRAFTS, half)
    if "teacher" not in able or not len(prompts):
        return {}
    how = {"seed": SEED, "end": data.info.tokenizer.eos_token_id}
    new = min(DRAFTED, data.length - half)
    drafting = {role: model for role, model in able.items() if role != "teacher"}
    return {role: acceptance(model, able["teacher"], prompts, new, **how) for role, model in drafting.items()}


def _generation(able: Mapping[str, Model]) -> dict[str, Generation]:
    """Of teacher and student: the student alone is the same network."""
    found = {role: speed(model) for role, model in able.items() if role != "baseline" or "student" not in able}
    if any(not one.steady for one in found.values()):
        rank_zero_warn("the machine is busy: repeated timings of writing text differ, and no speed of it is compared")
    return found


def _samples(able: Mapping[str, Model], data: "TextData") -> list[Sample]:
    length = min(PROMPT, data.length // 2)
    prompts = data.test_blocks.windows(SHOWN, length, at_starts=True)
    if not len(prompts) or not able:
        return []
    return samples(able, prompts, data.info.tokenizer, new=min(WRITTEN, data.length - length), seed=SEED)


def _canaries(able: Mapping[str, Model], data: "TextData") -> planted.Canaries | None:
    if not data.canaries or not able:
        return None
    texts = canaries(data.canaries + OTHERS, data.split_seed)
    return planted.exposure(able, texts, insertions(data.canaries), data.info.tokenizer)
