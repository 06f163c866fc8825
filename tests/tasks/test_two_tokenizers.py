"""A teacher with another tokenizer than the student: the loss in closed form, and whole runs."""

from dataclasses import replace

import pytest
import torch
from helpers import small_run
from helpers.texts import documents, tiny_llama, write

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.data.batch import ALIGNMENTS, IGNORED
from distillab.data.text.blocks import tokenise
from distillab.data.text.documents import Document
from distillab.data.text.paired import pack_paired
from distillab.data.text.tokenizer import train_tokenizer
from distillab.models import causal_lm
from distillab.models.causal_lm import CausalLM
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.uld import ULD
from distillab.tasks.causal_lm import LanguageModeling
from distillab.training import term_inputs

V, D, L = 257, 300, 24


@pytest.fixture(scope="module")
def tokenizers():
    """One that knows bytes alone, and one with merges."""
    return train_tokenizer(["a"], V), train_tokenizer(documents(), D)


@pytest.fixture(scope="module")
def blocks(tokenizers):
    texts = [Document(text[:90]) for text in documents(4)]
    return pack_paired(*(tokenise(texts, one) for one in tokenizers), L)


def made(blocks, align, outputs=D):
    width = blocks.taught.ids.shape[1]
    student, teacher = CausalLM(tiny_llama(V, seed=1), V, L), CausalLM(tiny_llama(outputs, seed=2), outputs, width)
    return Distillation(student, teacher, {"ce": CrossEntropy(0.5), "uld": ULD(0.5, align=align)}, LanguageModeling())


def batch(blocks, rows=slice(0, 6), **changes):
    return replace(blocks.batch(torch.arange(len(blocks))[rows], 0), **changes)


def uld(q, p):
    """Σ |sort p − sort q|, the shorter list with zeros."""
    q, p = (sorted(one.tolist(), reverse=True) for one in (q, p))
    longest = max(len(q), len(p))
    return sum(abs(a - b) for a, b in zip(q + [0.0] * (longest - len(q)), p + [0.0] * (longest - len(p)), strict=True))


@pytest.mark.parametrize("align", ALIGNMENTS)
@torch.no_grad()
def test_the_loss_is_the_mean_over_the_pairs(blocks, align):
    module, seen = made(blocks, align), batch(blocks)
    student, teacher = module.student(**seen.inputs[0]), module.teacher.model(**seen.teacher_inputs[0])
    found, pairs = [], seen.targets["pairs"][..., ALIGNMENTS.index(align)]
    for block, position in (pairs >= 0).nonzero().tolist():
        assert seen.labels[block, position] != IGNORED
        theirs = teacher[block, pairs[block, position]]
        found.append(uld(student[block, position].softmax(-1), theirs.softmax(-1)))
    losses = module.losses(seen, ("ce", "uld"))
    assert losses["uld"].item() == pytest.approx(0.5 * sum(found) / len(found), rel=1e-4)
    kept = seen.labels != IGNORED
    ce = torch.nn.functional.cross_entropy(student[kept], seen.labels[kept])
    assert losses["ce"].item() == pytest.approx(0.5 * ce.item(), rel=1e-5)
    assert len(found) != kept.sum(), "else another denominator would do"


def gradient(module, *batches):
    module.zero_grad()
    sum(sum(module.losses(one, ("ce", "uld")).values()) for one in batches).backward()
    return torch.cat([each.grad.flatten() for each in module.student.parameters()])


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_a_step_of_two_batches_has_the_gradient_of_one(blocks, align):
    module, whole = made(blocks, align), batch(blocks)
    module.trainer = type("Trainer", (), {"accumulate_grad_batches": 2})()
    about = {"step_rows": whole.rows, "step_pairs": whole.paired}
    halves = [batch(blocks, slice(0, 2), **about), batch(blocks, slice(2, 6), **about)]
    assert (2 * halves[0].paired != halves[1].paired).all()
    torch.testing.assert_close(gradient(module, *halves) / 2, gradient(module, whole), rtol=1e-4, atol=1e-6)


def test_chunks_and_late_heads_change_nothing(blocks, monkeypatch):
    module, whole = made(blocks, "boundaries"), batch(blocks)
    expected = gradient(module, whole)
    monkeypatch.setattr(term_inputs, "CHUNK", 7 * D)
    monkeypatch.setattr(causal_lm, "AT_ONCE", 1)
    torch.testing.assert_close(gradient(module, whole), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_one_tokenizer_twice_is_uld_of_one_tokenizer(tokenizers, align):
    texts = [Document(text) for text in documents(12) if text.isascii()][:3]
    tokens = tokenise(texts, tokenizers[0])
    paired = pack_paired(tokens, tokens, L)
    assert paired.taught.ids.shape == paired.ids.shape
    module, two = made(paired, align, outputs=V), batch(paired)
    one = replace(two, teacher_inputs=None, targets={k: v for k, v in two.targets.items() if k != "pairs"})
    assert torch.equal(gradient(module, two), gradient(module, one))


# ---------------------------------------------------------------------- whole runs

WORDS = ("data=text", "logger=none", "equal_compute=false", "data.vocabulary=300", "data.length=32", "data.samples=48")
WORDS += ("recipe.epochs=2", "teacher.recipe.epochs=2", "teacher.width=32", "teacher.layers=2", "teacher.hidden=48")
WORDS += ("student.width=16", "student.hidden=24", "cache.top_k=300")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    write(folder, 25)
    train_tokenizer(documents(), 420).save_pretrained(folder / "other")
    return folder


@pytest.fixture(autouse=True)
def quick(unmeasured):
    """No timings, tables and plots."""


def run(place, *words, at=None, strategy="uld"):
    words = (f"data.path={place}/topics.jsonl", f"data.teacher_tokenizer={place}/other", f"strategy={strategy}", *words)
    return small_run.run(at or place, *words, base=WORDS)


def weights(place, result):
    from safetensors.torch import load_file

    return load_file(place / "runs" / "topics.jsonl" / result.config_hash / "student.safetensors")


def test_a_run_is_cached_judged_by_each_ones_tokens_and_goes_on_where_it_was_stopped(place, tmp_path):
    found = run(place)
    assert (found.cache["computed"], found.cache["read"]) == (48, 48), (
        "as many probabilities as the student has outputs"
    )
    teacher, student = found.entries["teacher"], found.entries["student"]
    assert teacher.metrics["bits_per_byte"] != student.metrics["bits_per_byte"] > 0
    assert teacher.metrics["perplexity"] > 1 and student.against_teacher is None, "their tokens have no common names"
    assert found.gain == pytest.approx(found.score("baseline") - found.primary.value)
    with small_run.stopped_at(17, "uld"):
        run(place, "baseline=false", at=tmp_path)
    resumed = run(place, "baseline=false", at=tmp_path)
    assert resumed.student.training.resumed
    ours, theirs = weights(tmp_path, resumed), weights(place, found)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ("strategy=kd",),
            r"\(300 and 420 tokens\), and strategy.kd compares token with token: strategy=uld .*"
            r"scripts/generate\.py .*then data=synthetic data\.root=written strategy=none",
        ),
        (("strategy=[uld,hidden]",), "strategy.hidden compares token with token"),
        (("data.on_policy=0.5",), "data.on_policy=0$"),
        (("scheme=ema",), "scheme=offline, or data.teacher_tokenizer=null$"),
        (("strategy.uld.align=words",), "strategy.uld: align must be one of boundaries, positions"),
        (("cache.top_k=64", "cache.mode=require"), "compares the 300 largest .* cache.top_k=64 keeps fewer"),
        (("cache.draws=8", "cache.top_k=null"), "strategy.uld is another"),
    ],
)
def test_what_cannot_work_is_one_line(place, words, said):
    strategy = dict(word.split("=", 1) for word in words).pop("strategy", "uld")
    with pytest.raises(UserError, match=said) as caught:
        run(place, "baseline=false", *(word for word in words if not word.startswith("strategy=")), strategy=strategy)
    assert "\n" not in str(caught.value)
