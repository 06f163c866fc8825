"""Terms over tokens: the mean over the kept tokens of a whole step, whatever the batches; chunks and late heads alike."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.texts import tiny_llama

from distillab import Distillation
from distillab.data.batch import IGNORED, Batch
from distillab.data.loader import Loader
from distillab.data.text.blocks import Blocks, Tokens, pack
from distillab.models import causal_lm
from distillab.models.causal_lm import CausalLM
from distillab.strategies.attention_map import AttentionMap
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.hidden import Hidden
from distillab.strategies.kd import KD
from distillab.tasks.causal_lm import LanguageModeling
from distillab.training import term_inputs

V, L = 64, 12


def module():
    student, teacher = CausalLM(tiny_llama(seed=1), V, L), CausalLM(tiny_llama(seed=2, hidden_size=32), V, L)
    terms = {"ce": CrossEntropy(0.5), "kd": KD(0.5, temperature=1.0)}
    return Distillation(student, teacher, terms, LanguageModeling())


def batch(count=4):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (count, L), generator=draw)
    labels = torch.randint(V, (count, L), generator=draw)
    labels[torch.rand(count, L, generator=draw) < 0.4] = IGNORED  # rows of unequal numbers of tokens
    documents = (torch.arange(L) > 7).long().expand(count, L)
    targets = {"labels": labels, "sizes": torch.ones_like(ids)}
    return Batch([{"input_ids": ids, "documents": documents}], targets, torch.arange(count), 0)


def part(whole, chosen, **changes):
    inputs = [{name: value[chosen] for name, value in whole.inputs[0].items()}]
    targets = {name: value[chosen] for name, value in whole.targets.items()}
    return replace(Batch(inputs, targets, whole.index[chosen], 0), **changes)


def gradients(made, *batches):
    """Of the sum of these batches' losses."""
    made.zero_grad()
    total = sum(sum(made.losses(one, ("ce", "kd")).values()) for one in batches)
    total.backward()
    return total.item(), [parameter.grad.clone() for parameter in made.student.parameters()]


def same(one, other, tolerance=1e-6):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    largest = max(gradient.abs().max() for gradient in one[1])
    assert all((a - b).abs().max() <= tolerance * max(1, largest) for a, b in zip(one[1], other[1], strict=True))


def test_the_loss_is_the_mean_over_the_tokens_that_have_a_label():
    made, whole = module(), batch()
    kept = whole.labels != IGNORED
    student, teacher = (net(**whole.inputs[0])[kept].double() for net in (made.student, made.teacher.model))
    ce = -student.log_softmax(-1).gather(-1, whole.labels[kept][:, None]).mean()
    p = teacher.softmax(-1)
    kd = (p * (p.log() - student.log_softmax(-1))).sum(-1).mean()
    losses = made.losses(whole, ("ce", "kd"))
    assert losses["ce"].item() == pytest.approx(0.5 * ce.item(), rel=1e-5)
    assert losses["kd"].item() == pytest.approx(0.5 * kd.item(), rel=1e-4)


def test_a_step_of_two_batches_has_the_gradient_of_one():
    made, whole = module(), batch()
    made.trainer = type("Trainer", (), {"accumulate_grad_batches": 2})()
    rows = whole.rows
    halves = [part(whole, slice(0, 1), step_rows=rows), part(whole, slice(1, 4), step_rows=rows)]
    assert halves[0].rows != halves[1].rows
    value, found = gradients(made, *halves)
    same(gradients(made, whole), (value / 2, [gradient / 2 for gradient in found]))  # Lightning divides by 2


def test_padding_changes_nothing():
    made, whole = module(), batch()
    inputs = {  # eight more positions that belong to no document
        "input_ids": torch.cat([whole.inputs[0]["input_ids"], torch.full((4, 8), 3)], 1),
        "documents": torch.cat([whole.inputs[0]["documents"], torch.full((4, 8), -1)], 1),
    }
    labels = torch.cat([whole.labels, torch.full((4, 8), IGNORED)], 1)
    padded = replace(whole, inputs=[inputs], targets={"labels": labels, "sizes": torch.ones_like(labels)})
    same(gradients(made, whole), gradients(made, padded))


@pytest.mark.parametrize("rows", [1, 5, 7, 1000])
def test_chunks_and_heads_that_come_late_change_nothing(rows, monkeypatch):
    made, whole = module(), batch()
    plain = gradients(made, whole)
    monkeypatch.setattr(term_inputs, "CHUNK", rows * V)
    same(plain, gradients(made, whole))
    monkeypatch.setattr(causal_lm, "AT_ONCE", 1)
    same(plain, gradients(made, whole))


def test_a_late_head_runs_once_in_each_pass_for_all_terms(monkeypatch):
    made, whole = module(), batch()
    monkeypatch.setattr(causal_lm, "AT_ONCE", 1)
    monkeypatch.setattr(term_inputs, "CHUNK", 10 * V)
    calls = []
    head = CausalLM.head
    monkeypatch.setattr(CausalLM, "head", lambda self, rows: calls.append((self, len(rows))) or head(self, rows))
    gradients(made, whole)
    ours = [count for owner, count in calls if owner is made.student]
    assert max(ours) <= 10 and sum(ours) == 2 * whole.rows, "once forward and once in the backward pass"


def test_a_batch_without_a_label_is_worth_nothing():
    made, whole = module(), batch()
    whole.targets["labels"].fill_(IGNORED)
    value, found = gradients(made, whole)
    assert value == 0 and not any(gradient.any() for gradient in found)


# ---------------------------------------------------------------------- rows of features

FEATURES = {
    "hidden": Hidden,
    "relations": AttentionMap,
    "scores": partial(AttentionMap, match="scores"),
    "relation_heads": partial(AttentionMap, relation_heads=4),
}


def of_features(kind, length=L):
    """A module in float64 of one such term, for blocks of this length."""
    nets = tiny_llama(seed=1), tiny_llama(seed=2, hidden_size=32, layers=4)
    student, teacher = (CausalLM(net, V, length) for net in nets)
    return Distillation(student, teacher, {"term": FEATURES[kind](0.5)}, LanguageModeling()).double()


def of_a_step(made, batches):
    """Loss and gradients (connectors too) of an optimiser step over these batches, in float64."""
    made.trainer = type("Trainer", (), {"accumulate_grad_batches": len(batches)})()
    losses = [made.losses(one, ("term",))["term"] / len(batches) for one in batches]
    return sum(loss.item() for loss in losses), torch.autograd.grad(sum(losses), made.trainable, allow_unused=True)


def assert_same(one, other):
    """Within 1e-6 of the largest gradient, and there is one."""
    assert one[0] == pytest.approx(other[0], rel=1e-9) and one[0] > 0
    pairs = [(a, b) for a, b in zip(one[1], other[1], strict=True) if a is not None or b is not None]
    largest = max(b.abs().max() for _, b in pairs)
    assert largest > 0 and all((a - b).abs().max() < 1e-6 * largest for a, b in pairs)


def documents(*lengths):
    """Tokens of documents of these lengths, of which the first position and some others are never labels."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for length in lengths:
        learned = (torch.rand(length, generator=draw) > 0.3).numpy()
        learned[0] = False
        found.append(Tokens(torch.randint(V, (length,), generator=draw).numpy(), np.ones(length, int), learned))
    return found


def steps(blocks, batch_size, accumulate):
    """The batches of the first optimiser step, as a loader gives them."""
    return list(Loader(blocks, batch_size, accumulate=accumulate))[:accumulate]


@pytest.mark.parametrize("kind", FEATURES)
def test_rows_of_features_weigh_the_same_however_a_step_is_cut(kind):
    """One batch of four blocks and two of two, whose blocks have unequal numbers of labels."""
    made, blocks = of_features(kind), pack(documents(9, 12, 3, 8, 10), L)
    blocks.labels[0, 2:] = IGNORED
    whole, halves = steps(blocks, 4, 1), steps(blocks, 2, 2)
    assert [len(one) for one in whole + halves] == [4, 2, 2] and halves[0].rows != halves[1].rows
    assert_same(of_a_step(made, halves), of_a_step(made, whole))
    alone = [replace(one, step_rows=None) for one in halves]  # each by its own labels: another gradient
    with pytest.raises(AssertionError):
        assert_same(of_a_step(made, alone), of_a_step(made, whole))


@pytest.mark.parametrize("kind", FEATURES)
def test_rows_of_features_are_the_same_packed_alone_and_padded(kind):
    parts = documents(7, 5, 9, 3)
    packed, alone = (pack(parts, L), Blocks.joined([pack([one], L) for one in parts]))
    assert len(packed) == 2 and len(alone) == 4
    made = of_features(kind)
    expected = of_a_step(made, steps(packed, 2, 1))
    assert_same(of_a_step(made, steps(alone, 4, 1)), expected)
    padded = Blocks.joined([pack([one], L + 4) for one in parts])
    assert_same(of_a_step(of_features(kind, L + 4), steps(padded, 4, 1)), expected)


@pytest.mark.parametrize("kind", FEATURES)
def test_rows_of_features_without_a_label_are_worth_nothing(kind):
    made, whole = of_features(kind), batch()
    whole.targets["labels"].fill_(IGNORED)
    value, found = of_a_step(made, [whole])
    assert value == 0 and not any(gradient.any() for gradient in found if gradient is not None)
