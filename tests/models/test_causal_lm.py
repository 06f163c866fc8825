"""A language model from outside: documents in one block do not see each other, rows of large vocabularies come late."""

import pytest
import torch
from helpers.texts import tiny_llama
from torch import nn

from distillab.core.errors import UserError
from distillab.models import causal_lm
from distillab.models.causal_lm import CausalLM, keep_layers, layer_paths, llama, pretrained_lm
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.fingerprint import code, weights_hash

V, L = 64, 12


def model(vocabulary=V, **changes):
    return CausalLM(tiny_llama(**changes), vocabulary, L)


def ids(count=2, seed=1, length=L):
    return torch.randint(V, (count, length), generator=torch.Generator().manual_seed(seed))


def numbered(*lengths):
    return torch.tensor([[n for n, length in enumerate(lengths) for _ in range(length)]])


@pytest.mark.parametrize("lengths", [(5, 7), (1, 1, 10), (12,), (4, 4, 4)])
@torch.no_grad()
def test_documents_in_one_block_give_the_logits_that_they_give_alone(lengths):
    net, block = model(), ids(1)
    together = net(block, documents=numbered(*lengths))
    alone = torch.cat([net(part, documents=torch.zeros_like(part)) for part in block.split(lengths, 1)], 1)
    assert torch.allclose(together, alone, atol=1e-5)
    if len(lengths) > 1:
        assert not torch.allclose(together, net(block), atol=1e-2), "a leak would show"


@torch.no_grad()
def test_it_gives_what_transformers_gives_for_plain_and_for_padded_text():
    net, block = model(), ids()
    assert torch.allclose(net(block), net.net(block).logits, atol=1e-5)
    seen = torch.ones_like(block)
    seen[0, 8:] = 0  # padded on the right
    seen[1, :3] = 0  # and on the left
    theirs = net.net(block, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp(min=0)).logits
    ours = net(block, attention_mask=seen)
    assert torch.allclose(ours[seen > 0], theirs[seen > 0], atol=1e-5)
    assert torch.isfinite(ours).all()


HEADS = {
    "tied": {"tie_word_embeddings": True},
    "untied": {"tie_word_embeddings": False},
}


def other_head(name):
    """Networks whose heads do more than multiply: a scale, soft-capping, a bias."""
    from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, PhiConfig

    about = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    about |= {"vocab_size": V, "max_position_embeddings": 64}
    torch.manual_seed(0)
    config = {
        "scale": lambda: CohereConfig(**about, logit_scale=0.25),
        "soft-capping": lambda: Gemma2Config(
            **about, head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.05, initializer_range=0.3
        ),
        "bias": lambda: PhiConfig(**about),
    }[name]()
    net = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


@pytest.mark.parametrize("head", [*HEADS, "scale", "soft-capping", "bias"])
def test_rows_that_are_projected_late_are_the_logits_and_give_their_gradients(head, monkeypatch):
    net = CausalLM(tiny_llama(**HEADS[head]) if head in HEADS else other_head(head), V, L)
    inputs = {"input_ids": ids(), "documents": numbered(5, 7).expand(2, L)}
    whole = net(**inputs)
    monkeypatch.setattr(causal_lm, "AT_ONCE", 1)
    late = net.outputs(**inputs)
    assert late.shape == whole.shape
    assert torch.allclose(late.dense(), whole, atol=1e-6)
    kept = torch.zeros(2, L, dtype=torch.bool)
    kept[:, ::3] = True
    assert torch.allclose(late[kept][1:3].dense(), whole[kept][1:3], atol=1e-6)

    def gradients(logits):
        net.zero_grad()
        logits.sin().sum().backward()
        return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]

    for one, other in zip(gradients(net(**inputs)), gradients(net.outputs(**inputs).dense()), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_outputs_beyond_the_tokens_are_cut_and_the_rest_renormalised(monkeypatch):
    whole, cut = model(), model(vocabulary=50)
    assert cut.info.outputs == 50
    block = ids() % 50
    ours = cut(block).softmax(-1)
    theirs = whole(block)[..., :50].softmax(-1)
    assert ours.shape[-1] == 50 and torch.allclose(ours, theirs)
    monkeypatch.setattr(causal_lm, "AT_ONCE", 1)
    assert torch.allclose(cut.outputs(block).dense().softmax(-1), theirs, atol=1e-6)
    with pytest.raises(UserError, match="has 64 outputs and the tokenizer 65 tokens"):
        model(vocabulary=65)


def test_a_block_longer_than_the_network_takes_is_refused():
    with pytest.raises(UserError, match=r"takes 64 tokens at most, and its blocks have 65: data\.length=64"):
        CausalLM(tiny_llama(), V, 65)


def test_stages_are_the_layers_and_are_read_as_maps():
    net = model(layers=3)
    assert [stage.name for stage in net.info.stages] == layer_paths(net.net) == [f"model.layers.{n}" for n in range(3)]
    read = FeatureExtractor(net, {"stages", "logits"})(input_ids=ids())
    assert [tuple(one.shape) for one in read.stages] == [(2, 16, 1, L)] * 3
    hidden = net.net(ids(), output_hidden_states=True).hidden_states
    assert torch.allclose(read.stages[0].squeeze(2).mT, hidden[1], atol=1e-5)
    with pytest.raises(UserError, match=r'no stage "model\.layer\.0"; did you mean'):
        CausalLM(tiny_llama(), V, L, stages=["model.layer.0"])


def test_some_layers_of_a_network_are_a_smaller_network_that_writes_text():
    whole = tiny_llama(layers=4)
    first, last = (whole.model.layers[n].mlp.up_proj.weight.clone() for n in (0, 3))
    kept = keep_layers(whole, [0, 3])
    assert len(kept.model.layers) == kept.config.num_hidden_layers == 2
    assert torch.equal(kept.model.layers[0].mlp.up_proj.weight, first)
    assert torch.equal(kept.model.layers[1].mlp.up_proj.weight, last)
    prompt = ids(1, length=4)
    written = kept.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    step = kept(written[:, :-1]).logits[0, 3:].argmax(-1)
    assert torch.equal(written[0, 4:], step), "the layers' places in the key-value cache are right"
    for wrong in ([0, 4], [], ["0"]):
        with pytest.raises(UserError, match="layers must list numbers from 0 to 3"):
            keep_layers(tiny_llama(layers=4), wrong)


def test_the_small_llamas_have_the_size_that_their_names_say():
    counted = [
        sum(p.numel() for p in llama(1024, 128, width=width, layers=layers, heads=4, hidden=hidden).parameters())
        for width, layers, hidden in ((64, 2, 176), (160, 4, 432))
    ]
    assert counted == [166_208, 1_404_320]


def test_a_network_of_transformers_is_known_by_its_config_and_not_by_its_source():
    assert code(model()) is None
    assert weights_hash(model()) == weights_hash(model()) != weights_hash(model(seed=1))


def test_a_plain_network_of_ids_does_as_well():
    net = CausalLM(nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V)), V, L)
    assert net(ids()).shape == (2, L, V) == net.outputs(**net.example_inputs()).shape
    assert net.info.stages == ()


@torch.no_grad()
def test_a_folder_in_bfloat16_with_a_tied_head_runs_in_float32(tmp_path):
    """Its padding is its end of text, as in many chat models."""
    net = tiny_llama(tie_word_embeddings=True, pad_token_id=2, eos_token_id=2).bfloat16()
    net.save_pretrained(tmp_path)
    found = CausalLM(pretrained_lm(str(tmp_path)), V, L)
    assert {each.dtype for each in found.parameters()} == {torch.float32}
    assert found.net.lm_head.weight is found.net.model.embed_tokens.weight
    assert all(torch.equal(a.float(), b) for a, b in zip(net.parameters(), found.net.parameters(), strict=True))
    block = ids(1)
    block[0, 3] = 2  # inside a text it is a token like any other
    torch.testing.assert_close(found(block), found.net(block).logits)
    assert found(block).dtype == torch.float32
