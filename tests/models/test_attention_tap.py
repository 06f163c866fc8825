"""What the attention of a network reads is noted, or it is said why it cannot be."""

import pytest
import torch
from helpers.fits import SHAPE, small
from helpers.texts import tiny_llama
from torch import nn

from distillab.core.errors import UserError
from distillab.models.causal_lm import CausalLM
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.image_model import ImageModel

V, L = 64, 12


def extractor(net, **about):
    return FeatureExtractor(CausalLM(net, V, L, "net", **about), {"logits", "attentions"})


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@torch.no_grad()
def test_the_tap_changes_nothing_and_leaves_nothing_behind(kind):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    read = extractor(tiny_llama(attn_implementation=kind, num_attention_heads=4, num_key_value_heads=2))
    inputs, before = read.model.example_inputs(2), dict(ALL_ATTENTION_FUNCTIONS)
    plain = read.model(**inputs)
    found = read(**inputs)
    assert torch.equal(found.logits, plain) and dict(ALL_ATTENTION_FUNCTIONS) == before and not read.attentions
    assert [one.heads for one in found.attentions] == [4, 4] and found.attentions[0].keys.shape[1] == 2
    assert found.attentions[0].scores.shape == (2, 4, L, L) and found.attentions[0].head_values.shape == (2, 4, L, 4)
    assert torch.equal(found.attentions[0].seen, torch.ones(2, L, L).tril().bool())


@torch.no_grad()
def test_stages_choose_the_layers():
    net = tiny_llama(layers=3)
    few, every = extractor(net, stages=["model.layers.2"]), extractor(net)
    inputs = few.model.example_inputs(2)
    (one,), all_of_them = few(**inputs).attentions, every(**inputs).attentions
    assert torch.equal(one.queries, all_of_them[2].queries) and len(all_of_them) == 3


def test_an_error_on_the_way_takes_the_tap_off():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    read, before = extractor(tiny_llama()), dict(ALL_ATTENTION_FUNCTIONS)
    read.run = lambda **_: (_ for _ in ()).throw(RuntimeError)
    with pytest.raises(RuntimeError):
        read(**read.model.example_inputs(2))
    assert dict(ALL_ATTENTION_FUNCTIONS) == before


def test_a_stage_without_attention_is_refused():
    read = extractor(tiny_llama(), stages=["model.layers.0.mlp"])
    with pytest.raises(UserError, match=r"net shows no attention in model\.layers\.0\.mlp: strategy=hidden"):
        read(**read.model.example_inputs(2))


def test_attention_that_is_more_than_products_is_refused():
    """Soft-capped scores are not those that the softmax is taken of."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    about = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    about |= {"vocab_size": V, "head_dim": 8, "num_key_value_heads": 2}
    net = AutoModelForCausalLM.from_config(Gemma2Config(**about), attn_implementation="eager")
    read = extractor(net)
    with pytest.raises(UserError, match=r"net has attention that is not read here \(softcap\).*strategy=hidden"):
        read(**read.model.example_inputs(2))


@pytest.mark.parametrize(
    "model",
    [
        lambda: ImageModel(small(), SHAPE, "net"),
        lambda: CausalLM(nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V)), V, L, "net"),
    ],
)
def test_a_network_of_another_kind_is_refused(model):
    with pytest.raises(UserError, match=r"net shows no (attention|feature maps)"):
        FeatureExtractor(model(), {"attentions"})
