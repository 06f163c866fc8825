"""Which methods read the teacher's logits or its head: all terms of all configs, with a teacher that shows neither."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import two_networks
from helpers.fits import CONFIGS, strategy
from helpers.texts import tiny_llama
from torch import Tensor

from distillab import Distillation
from distillab.models.causal_lm import CausalLM
from distillab.models.feature_extractor import MODEL_OUTPUTS, FeatureExtractor
from distillab.strategies.base import Outputs, Term
from distillab.strategies.strategy import Strategy
from distillab.tasks.causal_lm import LanguageModeling
from distillab.tasks.image_classification import ImageClassification
from distillab.training.term_inputs import only, term_losses

OF_TEXT = ["attention_map"]
READING = {  # of the terms beside those on logits alone
    "cat": ["cat"],
    "sdd": ["sdd"],
    "srrl": ["srrl"],
    "simkd": ["simkd"],
    "hint_two_phase": ["kd"],
    "nd": ["kd"],
    "semckd": ["kd"],
}
FREE = {
    "ab",
    "attention",
    "attention_map",
    "cc",
    "crd",
    "fsp",
    "ft",
    "hidden",
    "hint",
    "kdsvd",
    "none",
    "nst",
    "ofd",
    "pkt",
}
FREE |= {"foundation", "reviewkd", "rkd", "sp", "srd", "vid", "wkd"}


class Read(Exception):
    """Something was done with what must not be read."""


class Poisoned(Tensor):
    """A tensor that may be handed on, and nothing else."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise Read


def poison():
    return torch.zeros(()).as_subclass(Poisoned)


def images(name):
    """A strategy's terms, both models, their outputs with all there is to read, and a batch."""
    with two_networks.distillation(name) as module:
        two_networks.show_data(module, None)
        batch = two_networks.samples()
        models = (module.student, two_networks.models()[1])
        seen = SimpleNamespace(labels=batch.labels, index=batch.index, views=batch.inputs, written=None)
        yield module.strategy.terms, models, *outputs(models, batch, set(MODEL_OUTPUTS) - {"attentions"}), seen


def text(name):
    models = tuple(CausalLM(tiny_llama(seed=seed), 64, 12, f"llama{seed}") for seed in (1, 2))
    module = Distillation(*models, Strategy.of(name, "causal_lm"), LanguageModeling())
    batch = module.task.example_batch(module.student)
    terms = {key: term for key, term in module.strategy.terms.items() if term.kind == "distil"}
    yield terms, models, *outputs(models, batch, {"logits", "stages", "attentions"}), batch


def of(name):
    return (text if name in OF_TEXT else images)(name)


def outputs(models, batch, needs):
    for model in models:
        extractor = FeatureExtractor(model, needs - (set() if model.info.token_heads else {"token_logits"}))
        yield Outputs([extractor(**view) for view in batch.inputs])
        extractor.remove()


def without(teacher, **poisoned):
    return Outputs([SimpleNamespace(**vars(view) | poisoned) for view in teacher])


def fails(term, student, teacher, seen):
    """Whether a term uses what is poisoned: of the training data, in a step, or in the trial before the first."""
    batch = only(term, "batch", seen)
    calls = [lambda: term(student, teacher, batch)]
    if term.prepares:
        calls.insert(0, lambda: term.prepare(seen.labels, lambda: iter([(teacher[0], seen)])))
    found = []
    for mode in (True, False):
        term.train(mode)
        for call in calls:
            try:
                call()
            except Read:
                found.append(True)
    return any(found)


@pytest.mark.parametrize("name", CONFIGS)
def test_exactly_the_terms_that_say_so_read_the_teachers_logits_and_its_head(name):
    for terms, models, student, teacher, seen in of(name):
        for key, term in terms.items():
            assert not fails(term, student, teacher, seen), key
            assert fails(term, student, without(teacher, logits=poison()), seen) == term.reads_logits, key
            head = SimpleNamespace(weight=poison(), bias=poison())
            reads_head = fails(term, student, without(teacher, head=head), seen)
            assert reads_head == ("teacher.head" in term.needs) and ships_head(term, *models) == term.ships_head, key
            assert term.needs_head == (reads_head or term.reads_logits or term.ships_head), key


def ships_head(term, student, teacher):
    """Whether a term cannot deploy with a teacher without a head."""
    known, teacher.info = teacher.info, replace(teacher.info, head=None)
    try:
        return term.deploy(student, SimpleNamespace(model=teacher)) is not student
    except AttributeError:
        return True
    finally:
        teacher.info = known


def test_the_methods_that_do_without_the_teachers_logits():
    needing = {name: Strategy.of(strategy(name)).needing_head for name in CONFIGS}
    assert {name for name, terms in needing.items() if not terms} == FREE
    assert {name: needing[name] for name in READING} == READING
    assert needing["kd"] == ["kd"] and needing["mlkd"] == ["instance", "batch_gram", "class_gram"]


class Sly(Term):
    """Says that it reads the embedding alone."""

    needs = ("student.logits", "teacher.embedding")

    def forward(self, student, teacher, batch):
        return (student.logits - teacher.logits).square().mean()


def test_a_term_that_does_not_say_so_is_found_out_and_gets_none():
    for _, _, student, teacher, seen in of("kd"):
        sly = Sly()
        assert fails(sly, student, without(teacher, logits=poison()), seen) and not sly.reads_logits
        with pytest.raises(AttributeError, match="logits"):
            term_losses({"sly": sly}, student, teacher, seen, task=ImageClassification())


def test_terms_that_read_no_logits_are_not_even_given_rows_of_them():
    """The labels' own loss beside a teacher without a head."""
    for terms, _, student, teacher, seen in of("hint"):
        terms, seen = dict(terms.items()), SimpleNamespace(**vars(seen), batch_rows=None, step_labels=None)
        expected = term_losses(terms, student, teacher, seen, task=ImageClassification())
        found = term_losses(terms, student, without(teacher, logits=poison()), seen, task=ImageClassification())
        assert found.keys() == {"ce", "hint"} and all(torch.equal(found[key], expected[key]) for key in found)
