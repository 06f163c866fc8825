"""Each bug that the doctor must catch is planted once, and caught by the check that names it; docs/doctor.md lists them."""

import re
from types import SimpleNamespace

import pytest
import torch
from helpers.small_text import TOKENS, distilling, small_llama, taught, text_data, tokenizer_folder
from torch.nn import functional as F

from distillab.commands.composition import conf_dir
from distillab.commands.doctor import text_checks
from distillab.commands.doctor.examination import examine, report
from distillab.commands.doctor.examined import Examined
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.data.loader import Loader
from distillab.data.text import blocks as packing
from distillab.data.text import datamodule
from distillab.models import causal_lm
from distillab.models.causal_lm import CausalLM
from distillab.models.logit_rows import SparseLogits
from distillab.strategies.kd import KD, kd_rows
from distillab.tasks.causal_lm import LanguageModeling
from distillab.teachers.frozen import FrozenTeacher
from distillab.training import module as training

CAUGHT = {}  # bug → the checks that caught it
whole_pack, whole_losses = packing.pack, training.term_losses


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tokenizer, texts, and a trained teacher, which no test changes."""
    place = tmp_path_factory.mktemp("text")
    tokenizer = tokenizer_folder(place / "tokenizer")
    data = text_data(place, tokenizer)
    talk = text_data(place, tokenizer, conversations=True)
    return SimpleNamespace(
        place=place, tokenizer=tokenizer, data=data, talk=talk, teacher=taught(small_llama(1), data, 60)
    )


def looked_at(made, data=None, teacher=None, *, ready_made=False, temperature=1.0):
    """What is not fine in the small run, by the name of its check."""
    teacher = teacher or made.teacher
    student = small_llama(0, width=16)
    module, config = distilling(student, teacher, folder=made.place / "cache", temperature=temperature)
    found = examine(Examined(config, data or made.data, student, teacher, module, ready_made))
    assert len(found) == 13
    return {each.check: (each.level, each.text) for each in found if each.level != "fine"}


def refused_by(bug, found, *checks, level="refused"):
    """Note which checks caught a bug, those that should among them."""
    CAUGHT[bug] = [name for name, (said, _) in found.items() if said == level]
    assert set(checks) <= set(CAUGHT[bug]), found
    assert not any("cannot be checked" in found[check][1] for check in checks), found
    return found


@pytest.mark.parametrize("conversations", [False, True])
def test_a_healthy_run_is_fine(made, conversations):
    teacher = made.teacher if not conversations else taught(small_llama(1), made.talk, 60)
    assert looked_at(made, made.talk if conversations else None, teacher) == {}


def planted_pack(monkeypatch, change):
    """Blocks whose labels are changed by `change(blocks, learned tokens)`, in the data and in the doctor's probe."""

    def pack(documents, length):
        found = whole_pack(documents, length)
        change(found, documents)
        return found

    monkeypatch.setattr(datamodule, "pack", pack)
    monkeypatch.setattr(text_checks, "pack", pack)


def test_labels_off_by_one(made, monkeypatch):
    planted_pack(
        monkeypatch, lambda found, _: found.labels.copy_(torch.where(found.documents >= 0, found.ids, IGNORED))
    )
    found = looked_at(made, text_data(made.place, made.tokenizer))
    refused_by("labels are not shifted", found, "labels", "shift")
    assert "off by one" in found["shift"][1]


def test_a_mask_that_is_not_shifted(made, monkeypatch):
    def unshifted(found, documents):
        learned = torch.from_numpy(packing.np.concatenate([each.learned for each in documents]))
        following = F.pad(found.ids.flatten()[1:], (0, 1))[: len(learned)]
        found.labels.flatten()[: len(learned)] = torch.where(learned, following, IGNORED)

    planted_pack(monkeypatch, unshifted)
    found = looked_at(made, text_data(made.place, made.tokenizer, conversations=True))
    refused_by("the mask is not shifted with the labels", found, "what is learned")


def test_a_padding_that_is_the_end_of_texts(made, monkeypatch):
    planted_pack(monkeypatch, lambda found, _: found.labels.masked_fill_(found.labels == 0, IGNORED))
    found = looked_at(made, text_data(made.place, made.tokenizer))
    refused_by("padding is the eos, and masked by its id", found, "ends of texts", "what is learned")


def test_labels_of_padding(made, monkeypatch):
    planted_pack(monkeypatch, lambda found, _: found.labels.masked_fill_(found.documents < 0, 0))
    refused_by("padding has labels", looked_at(made, text_data(made.place, made.tokenizer)), "labels")


def test_padding_that_the_loss_counts(made, monkeypatch):
    monkeypatch.setattr(LanguageModeling, "rows", lambda self, logits, labels: (logits.flatten(0, 1), labels.flatten()))
    refused_by("the loss counts padding", looked_at(made), "padding")


def test_another_end_than_the_teachers(made, monkeypatch):
    monkeypatch.setattr(made.teacher.net.generation_config, "eos_token_id", 5)
    found = refused_by("another eos than the teacher's", looked_at(made, ready_made=True), "ends of the teacher")
    assert "teacher.adapt=all" in found["ends of the teacher"][1]


def test_a_sum_of_means_over_batches(made, monkeypatch):
    monkeypatch.setattr(Loader, "_counted", lambda self, batches, start: batches)
    refused_by("a sum over batches of means", looked_at(made), "accumulation")


@pytest.mark.parametrize("where", ["the term", "the module"])
def test_a_denominator_of_tokens_times_outputs(made, monkeypatch, where):
    if where == "the term":
        monkeypatch.setattr(KD, "rows", lambda self, s, t, labels: kd_rows(s, t, self.temperature) / s.shape[-1])
    else:
        halved = lambda *a, **how: {name: loss / TOKENS for name, loss in whole_losses(*a, **how).items()}  # noqa: E731
        monkeypatch.setattr(training, "term_losses", halved)
    refused_by(f"a denominator of tokens times outputs, in {where}", looked_at(made), "denominator")


def test_a_padded_vocabulary(made, monkeypatch):
    teacher = small_llama(1, TOKENS + 8)
    refused = "the teacher gives 72 outputs"
    whole = CausalLM.forward

    def uncut(self, *ids, **inputs):
        return (
            whole(self, *ids, **inputs) if self is not teacher else self.net(**self._arguments(*ids, **inputs)).logits
        )

    monkeypatch.setattr(CausalLM, "forward", uncut)
    found = refused_by("a padded vocabulary is not cut", looked_at(made, teacher=teacher), "vocabulary")
    assert refused in found["vocabulary"][1]


@pytest.mark.parametrize(
    ("answers", "bug"),
    [
        ("{{ m['content'] }}<|endoftext|>", "a template without generation markers"),
        ("{% generation %}{{ m['content'] }}{% endgeneration %}<|endoftext|>", "the stop token outside the mask"),
    ],
)
def test_templates(made, monkeypatch, tmp_path, answers, bug):
    tokenizer = tokenizer_folder(tmp_path / "tokenizer", answers)
    if answers.startswith("{{"):
        with pytest.raises(UserError, match=re.escape("no {% generation %}")):  # before the doctor comes
            text_data(tmp_path, tokenizer, conversations=True)

        def unguarded(document, tokenizer):
            ids = tokenizer.apply_chat_template(list(document.messages), tokenize=True, return_dict=True)["input_ids"]
            ids = packing.np.array(ids)
            return packing.Tokens(ids, ids * 0 + 1, ids >= 0)  # the questions are learned too

        monkeypatch.setattr(packing, "_conversation", unguarded)
    found = looked_at(made, text_data(tmp_path, tokenizer, conversations=True))
    refused_by(bug, found, "what is learned")


def test_a_teacher_that_knows_nothing(made):
    found = looked_at(made, teacher=small_llama(1), ready_made=True)
    found = refused_by("a teacher worse than the student", found, "teacher and student", level="warning")
    assert "teacher.adapt=all" in found["teacher and student"][1]
    assert not [name for name, (level, _) in found.items() if level == "refused"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_temperature_that_the_cache_does_not_hold(made, monkeypatch, silent):
    if silent:  # it takes the tail of another temperature
        monkeypatch.setattr(SparseLogits, "_tail", lambda self, temperature: self.tail[..., 0])
    bug = "a temperature changed after caching" + (", silently" if silent else "")
    found = refused_by(bug, looked_at(made, temperature=4.0), "temperature")
    assert "cache.temperatures=[4]" in found["temperature"][1]


def test_attention_across_documents(made, monkeypatch):
    whole = causal_lm.packed
    monkeypatch.setattr(causal_lm, "packed", lambda documents, *how: whole(documents * 0, *how))
    refused_by("attention across documents", looked_at(made), "packing")


def test_a_teacher_with_dropout(made, monkeypatch):
    monkeypatch.setattr(FrozenTeacher, "train", lambda self, mode=True: torch.nn.Module.train(self, True))
    monkeypatch.setattr("distillab.commands.doctor.examination.evaluation_mode", lambda module: torch.random.fork_rng())
    for layer in made.teacher.net.model.layers:
        monkeypatch.setattr(layer.self_attn, "attention_dropout", 0.1)
    try:
        refused_by("a teacher in training mode", looked_at(made), "teacher and itself")
    finally:
        made.teacher.eval()


def test_what_is_refused_stops_and_what_is_not_is_told(made, capsys):
    student = small_llama(0, width=16)
    found = examine(Examined(SimpleNamespace(), made.data, student))
    report(found, 1.0)
    assert capsys.readouterr().out == "doctor: 5 fine in 1.0 s (doctor=false leaves it out)\n"
    wrong = [found[0]._replace(level="refused"), found[1]._replace(level="warning"), *found[2:]]
    with pytest.raises(UserError, match=r"refuses this run: labels; doctor=false"):
        report(wrong, 1.0, whole=True)
    assert capsys.readouterr().out.startswith("refused  labels: ")
    with pytest.raises(UserError, match=rf"refuses this run: labels: {wrong[0].text}; doctor=false"):
        report(wrong, 1.0)
    said = capsys.readouterr()
    assert (
        said.err == f"warning: doctor: what is learned: {wrong[1].text}\n"
        and "3 fine, 1 warning, 1 refused" in said.out
    )


def test_the_run_is_left_as_it_was(made):
    student = small_llama(0, width=16)
    module, config = distilling(student, made.teacher, folder=made.place / "cache")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    drawn, extractors, mode = torch.get_rng_state(), module.extractors, module.training
    examine(Examined(config, made.data, student, made.teacher, module))
    assert torch.equal(drawn, torch.get_rng_state()) and module.extractors is extractors and module.training == mode
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters()) and module.teacher.computed == 0
    assert module._trainer is None


def test_every_bug_is_in_the_table(request):
    table = (conf_dir().parent / "docs" / "doctor.md").read_text().partition("## Bugs that were planted")[2]
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \| ([^|]+?) \|$", table, re.MULTILINE)[2:]  # below the heading
    told = {bug: sorted(checks.split(", ")) for bug, checks in rows}
    assert {bug: sorted(checks) for bug, checks in CAUGHT.items()}.items() <= told.items()
    if len([item for item in request.session.items if item.path == request.path]) > len(told):  # all of them ran
        assert CAUGHT.keys() == told.keys()
    assert f"Caught: {len(told)} of {len(told)}" in table
