"""Terms over tokens: the mean over the kept tokens of a whole step, whatever the batches; chunks and late heads alike."""

from dataclasses import replace

import pytest
import torch
from helpers.texts import tiny_llama

from distillab import Distillation
from distillab.data.batch import IGNORED, Batch
from distillab.models import causal_lm
from distillab.models.causal_lm import CausalLM
from distillab.strategies.ce import CrossEntropy
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
