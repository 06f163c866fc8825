"""How much of single training texts a model gives away (Carlini et al., The Secret Sharer, arXiv 1802.08232)."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distillab.core.text_parts import Canaries
from distillab.data.batch import IGNORED
from distillab.data.text.blocks import Blocks, pack, tokenise
from distillab.data.text.documents import Document
from distillab.evaluation.token_scores import Column, token_scores
from distillab.models.causal_lm import CausalLM
from distillab.models.model import placed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 64  # texts


def exposures(losses: Tensor, planted: int) -> list[float]:
    """Exposure in bits of the first `planted` of texts with these losses (N,): log2 of the others + 1, less log2 of the rank.

    A canary's rank is among the others that were never planted, 1 for the smallest loss; equal losses rank behind.
    """
    own, others = losses[:planted], losses[planted:]
    ranks = 1 + (others[None] <= own[:, None]).sum(1)
    return [log2(len(others) + 1) - log2(rank) for rank in ranks.tolist()]


@torch.no_grad()
def losses(model: CausalLM, texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> Tensor:
    """The negative log-likelihood of each text as a document of its own, (N,), in nats."""
    model.eval()
    device, found = placed(model)[0], []
    for first in range(0, len(texts), AT_ONCE):
        tokens = tokenise([Document(text) for text in texts[first : first + AT_ONCE]], tokenizer)
        width = max(len(each.ids) for each in tokens)
        blocks = Blocks.joined([pack([each], width) for each in tokens])
        kept = blocks.labels != IGNORED
        logits = model.outputs(input_ids=blocks.ids.to(device), documents=blocks.documents.to(device))[kept.to(device)]
        place = torch.arange(len(blocks))[:, None].expand_as(blocks.ids)[kept]
        scores = token_scores(logits, blocks.labels[kept].to(device), blocks.sizes[kept], place)
        found.append(torch.zeros(len(blocks), dtype=torch.float64).index_add_(0, place, scores[:, Column.NLL]))
    return torch.cat(found)


def exposure(
    networks: Mapping[str, CausalLM], texts: Sequence[str], often: Sequence[int], tokenizer: "PreTrainedTokenizerBase"
) -> Canaries:
    """The exposure in every role of the first texts, which were planted so `often`, among the others."""
    found = {role: exposures(losses(model, texts, tokenizer), len(often)) for role, model in networks.items()}
    return Canaries(insertions=list(often), exposure=found, most=log2(len(texts) - len(often) + 1))


def words(found: Canaries) -> list[str]:
    """One sentence: the mean exposure in every role, of all and of those that stood there most often."""
    names = {"teacher": "the teacher", "baseline": "the student alone, which never saw them", "student": "the student"}
    often = max(found.insertions)
    most = [place for place, count in enumerate(found.insertions) if count == often]
    told = []
    for role, name in names.items():
        if role in found.exposure:
            bits = found.exposure[role]
            mean, of_most = sum(bits) / len(bits), sum(bits[place] for place in most) / len(most)
            told.append(f"{mean:.1f} ({of_most:.1f}) in {name}")
    return [
        f"{len(found.insertions)} canaries that the teacher alone was trained on have a mean exposure (in brackets those "
        f"that stood there {often} times) of {', '.join(told)}: bits of at most {found.most:.1f}, by chance 1.4."
    ]
