"""Batches of a plain loader: what is taken, and what is refused in one line before a network sees it."""

from math import log

import lightning
import pytest
import torch
from helpers.texts import tiny_llama
from torch.utils.data import DataLoader

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
        (batch(sizes=SEEN.float()), r"sizes .*whole numbers"),
        (batch(input_ids=IDS - 1), "input_ids .*got -1 to 4"),
    ],
)
def test_what_is_no_batch_of_tokens_is_one_line(given, said):
    with pytest.raises(UserError, match=said) as caught:
        LanguageModeling().as_batch(given, V)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sizes", [None, torch.tensor([[9, 2, 3], [9, 4, 9]])])
def test_the_loss_is_told_per_byte_where_the_loader_gives_the_bytes_and_else_per_token(sizes):
    """Of the tokens with a label: the first of a text and padding have none."""
    module = Distillation(tiny_llama(V), None, "none", LanguageModeling(length=3))
    given = batch() if sizes is None else batch(sizes=sizes)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = lightning.Trainer(accelerator="cpu", devices=1, **quiet)
    (figures,) = trainer.validate(module, DataLoader([given, given], batch_size=None), verbose=False)
    with torch.no_grad():
        log_p = module.student.net(IDS[:, :2], attention_mask=SEEN[:, :2]).logits.log_softmax(-1)
    bits = -(log_p[0, 0, 2] + log_p[0, 1, 3] + log_p[1, 0, 5]).item() / log(2)
    wanted = {"val/bits_per_token": bits / 3} if sizes is None else {"val/bits_per_byte": bits / (2 + 3 + 4)}
    assert figures == pytest.approx(wanted, rel=1e-5)


def test_without_a_look_values_are_not_read():
    assert LanguageModeling().as_batch(batch(labels=IDS + V), V, look=False).labels.max() == 69


def test_a_padded_head_is_cut_to_the_tokens_that_are_named():
    networks = tiny_llama(V), tiny_llama(V + 8)
    with pytest.raises(UserError, match=r"64 outputs and .* 72; LanguageModeling\(vocabulary=…\)"):
        Distillation(*networks, "kd", LanguageModeling(length=3))
    module = Distillation(*networks, "kd", LanguageModeling(length=3, vocabulary=V))
    assert torch.isfinite(module.losses(module.task.as_batch(batch(), V), ("ce", "kd"))["kd"])
