"""The acceptance rate against transformers' own speculative decoding: the share of drafted tokens that it keeps."""

import random

import pytest
import torch

pytest.importorskip("transformers")
DRAFTS = 12_000


def trained(width, steps, blocks, vocabulary):
    from distillab.models.causal_lm import CausalLM, llama

    torch.manual_seed(width)
    net = llama(vocabulary, 32, width=width, layers=1, heads=2, hidden=48)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(steps):
        logits = net(blocks.ids).logits.flatten(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, blocks.labels.flatten(), ignore_index=-100).backward()
        optimizer.step()
    return CausalLM(net.eval(), vocabulary, 32)


@pytest.mark.slow
def test_as_large_a_share_of_the_drafts_is_kept_as_the_overlap_says(monkeypatch):
    from transformers import GenerationConfig
    from transformers.generation.candidate_generator import AssistedCandidateGenerator

    from distillab.data.text.blocks import pack, tokenise
    from distillab.data.text.documents import Document
    from distillab.data.text.tokenizer import train_tokenizer
    from distillab.evaluation.acceptance import acceptance

    draw = random.Random(0)
    words = ["law", "union", "people", "land", "peace", "war", "money", "and", "of", "the"]
    texts = [" ".join(draw.choices(words, weights=range(1, 11), k=60)) for _ in range(40)]
    tokenizer = train_tokenizer(texts, 270)
    blocks = pack(tokenise([Document(text) for text in texts], tokenizer), 32)
    student, teacher = (trained(width, steps, blocks, 270) for width, steps in ((16, 25), (32, 60)))
    prompts = blocks.windows(DRAFTS, 16)
    kept, drafted = 0, 0

    def count(self, input_ids, scores, num_matches):
        nonlocal kept, drafted
        # Logits of every drafted token, and of the one behind; a round with room for one token alone drafts none.
        kept, drafted = kept + int(num_matches), drafted + scores.shape[1] - 1

    monkeypatch.setattr(AssistedCandidateGenerator, "update_candidate_strategy", count)
    how = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "pad_token_id": 0, "eos_token_id": None}
    settings = GenerationConfig(max_new_tokens=2, min_new_tokens=2, **how)
    drafting = student.net.generation_config
    drafting.num_assistant_tokens, drafting.num_assistant_tokens_schedule = 1, "constant"
    drafting.assistant_confidence_threshold = 0.0
    torch.manual_seed(0)
    for place in range(DRAFTS):
        prompt = prompts[place % len(prompts)][None]
        teacher.net.generate(
            prompt, attention_mask=torch.ones_like(prompt), assistant_model=student.net, generation_config=settings
        )
    # Of one token behind each prompt, so that both look at the same prefixes.
    found = acceptance(student, teacher, prompts, 1, seed=0, end=tokenizer.eos_token_id)
    print(f"{kept / drafted:.4f} of {drafted} drafts kept, {found.rate:.4f} by the overlap")
    assert drafted == DRAFTS and 0.1 < found.rate < 0.95
    assert kept / drafted == pytest.approx(found.rate, abs=0.01)
