"""Batches of a plain loader: what is taken, and what is refused in one line before a network sees it."""

import pytest
import torch
from helpers.texts import tiny_llama

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.tasks.causal_lm import LanguageModeling

V = 64
IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])
SEEN = torch.tensor([[1, 1, 1], [1, 1, 0]])


def batch(**changes):
    return {"input_ids": IDS, "labels": IDS, "attention_mask": SEEN} | changes


@pytest.mark.parametrize("seen", [SEEN, SEEN.bool(), SEEN.float()])
def test_labels_move_to_the_position_before_and_padding_has_none(seen):
    found = LanguageModeling().as_batch(batch(attention_mask=seen), V)
    assert found.labels.tolist() == [[2, 3, IGNORED], [5, IGNORED, IGNORED]]
    assert found.inputs[0]["documents"].tolist() == [[0, 0, 0], [0, 0, -1]]


@pytest.mark.parametrize(
    "given, said",
    [
        ((IDS, IDS), "input_ids .* got tuple"),
        ({"ids": IDS}, "got a mapping of ids"),
        (batch(labels=IDS[:, 1:]), r"labels of a batch must be a tensor \(N, L\).*got \(2, 2\)"),
        (batch(attention_mask=SEEN[:1]), r"attention_mask .*got \(1, 3\)"),
        (batch(labels=IDS.tolist()), "labels .*got list"),
        ({"input_ids": IDS[0]}, r"input_ids .*got \(3,\)"),
        (batch(input_ids=IDS.float()), r"input_ids .*whole numbers.*torch\.float32"),
        (batch(input_ids=IDS + V), "input_ids of a batch must be from 0 to 63, got 64 to 69"),
        (batch(labels=IDS + V), "labels of a batch must be -100 or from 0 to 63, got 64 to 69"),
        (batch(input_ids=IDS - 1), "input_ids .*got -1 to 4"),
    ],
)
def test_what_is_no_batch_of_tokens_is_one_line(given, said):
    with pytest.raises(UserError, match=said) as caught:
        LanguageModeling().as_batch(given, V)
    assert "\n" not in str(caught.value)


def test_without_a_look_values_are_not_read():
    assert LanguageModeling().as_batch(batch(labels=IDS + V), V, look=False).labels.max() == 69


def test_a_padded_head_is_cut_to_the_tokens_that_are_named():
    networks = tiny_llama(V), tiny_llama(V + 8)
    with pytest.raises(UserError, match=r"64 outputs and .* 72; LanguageModeling\(vocabulary=…\)"):
        Distillation(*networks, "kd", LanguageModeling(length=3))
    module = Distillation(*networks, "kd", LanguageModeling(length=3, vocabulary=V))
    assert torch.isfinite(module.losses(module.task.as_batch(batch(), V), ("ce", "kd"))["kd"])
