"""Documents in one block, against transformers' own reading of each document alone."""

import pytest
import torch
from helpers.texts import tiny_llama

from distillab.core.errors import UserError
from distillab.models.causal_lm import CausalLM
from distillab.models.packing import packed
from distillab.models.writing import write

V, L = 64, 24
ABOUT = {"vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
ABOUT |= {"num_key_value_heads": 1, "max_position_embeddings": 64, "initializer_range": 0.3}
SMALL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LOOKS = {  # how far the layers look: all alike, some of them, in chunks
    "mistral": {"sliding_window": 5},
    "phi3": {"sliding_window": 5, **SMALL},
    "starcoder2": {"sliding_window": 5},
    "qwen2": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
    "gemma3_text": {"sliding_window": 5, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "cohere2": {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "llama4_text": {
        "attention_chunk_size": 5,
        "head_dim": 8,
        "intermediate_size_mlp": 24,
        "num_local_experts": 2,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "llama": {},
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64},
}


def network(kind, attention="sdpa", **changes):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(ABOUT | LOOKS.get(kind, {}) | changes))
    net = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


@torch.no_grad()
@pytest.mark.parametrize("kind", LOOKS)
def test_a_document_in_a_block_reads_what_it_reads_alone(kind):
    """Documents longer than a window, and windows that end in the document before."""
    net = network(kind)
    ids = torch.randint(3, V, (1, L), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 13 + [1] * 8 + [-1] * 3])
    ours = CausalLM(net, V, L)(ids, documents=documents)
    for part in (slice(0, 13), slice(13, 21)):
        alone = net(ids[:, part], use_cache=False).logits
        torch.testing.assert_close(ours[:, part], alone, rtol=1e-4, atol=1e-4)
    if LOOKS[kind].keys() & {"sliding_window", "attention_chunk_size"}:
        whole = {key: None for key in ("sliding_window", "attention_chunk_size") if key in LOOKS[kind]}
        vars(net.config).update(whole)
        assert (CausalLM(net, V, L)(ids, documents=documents) - ours).abs().max() > 1e-2, "the window is seen"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_what_a_model_writes_is_its_likeliest_continuation_in_its_window(kind):
    net = network(kind)
    model, ids = CausalLM(net, V, L), torch.randint(3, V, (1, L), generator=torch.Generator().manual_seed(1))
    start, ends = torch.tensor([12]), torch.tensor([V])
    written = write(
        model, ids, torch.zeros_like(ids), start=start, draws=torch.full((1, L), 0.5), ends=ends, temperature=1e-4
    )
    for place in range(12, L):
        assert written[0, place] == net(written[:, :place], use_cache=False).logits[0, -1].argmax()


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "layers of the kind conv"),
        ("mamba", {}, "the kind|the architecture mamba"),
        ("bloom", {"n_head": 2, "n_layer": 2}, "the architecture bloom"),
    ],
)
def test_a_network_that_reads_on_into_the_next_document_is_refused(kind, changes, said):
    with pytest.raises(UserError, match=f"net: .*({said}).* cannot keep the documents of a block apart"):
        CausalLM(network(kind, "eager", **changes), V, L, "net")


def test_a_window_wider_than_the_block_changes_nothing():
    documents = torch.tensor([[0, 0, 0, 1, 1, -1]])
    config = tiny_llama().config
    plain, _ = packed(documents, torch.float32, config)
    config.sliding_window = 6
    assert torch.equal(packed(documents, torch.float32, config)[0], plain)


def test_positions_start_again_with_each_document():
    mask, positions = packed(torch.tensor([[0, 0, 0, 1, 1, -1]]), torch.float32)
    assert positions.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert (mask[0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
