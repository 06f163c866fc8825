"""How well a student drafts for its teacher in speculative decoding (Leviathan et al., arXiv 2211.17192)."""

import torch
from torch import Tensor

from distillab.core.text_parts import Acceptance
from distillab.evaluation.generation import write
from distillab.evaluation.token_scores import ROWS_AT_ONCE
from distillab.models.causal_lm import CausalLM
from distillab.models.logit_rows import dense


@torch.no_grad()
def acceptance(student: CausalLM, teacher: CausalLM, prompts: Tensor, new: int, *, seed: int, end: int) -> Acceptance:
    """The mean of 1 - TVD(student, teacher) over the prefixes that the student writes behind prompts (N, P).

    The student draws up to `new` tokens a prompt; at each of its prefixes a token that it drafts there is kept by the
    teacher with the probability Σ min(p, q) = 1 - ½ Σ |p - q|, so that nothing but the prefixes is random.
    """
    written = write(student, prompts, new, seed=seed, end=end)
    first = prompts.shape[1] - 1  # the row that predicts the first written token
    tokens = written[:, first + 1 :]
    ended = (tokens == end).cumsum(1) - (tokens == end).long() > 0  # behind the end of a text nothing is drafted
    rows = torch.zeros(written.shape[0], written.shape[1] - 1, dtype=torch.bool, device=written.device)
    rows[:, first:] = ~ended
    q, p = (model.outputs(input_ids=written[:, :-1])[rows] for model in (student.eval(), teacher.eval()))
    count, step, kept = len(q), max(1, ROWS_AT_ONCE // student.vocabulary), 0.0
    for at in range(0, count, step):
        one, other = (dense(logits[at : at + step]).softmax(-1) for logits in (q, p))
        kept += torch.minimum(one, other).sum().item()
    return Acceptance(rate=kept / count, tokens=count)
