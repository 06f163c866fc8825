"""What the student writes, what the terms make of it, and that a resumed fit writes the same."""

from dataclasses import replace

import pytest
import torch
from helpers.fits import assert_equal, stop_and_resume, trainer
from helpers.small_text import LENGTH, TOKENS, distilling, small_llama, taught, text_data, tokenizer_folder
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, IGNORED, Writing
from distillab.models.causal_lm import CausalLM
from distillab.models.writing import write
from distillab.tasks.causal_lm import LanguageModeling
from distillab.training.module import Distillation
from distillab.training.on_policy import TEMPERATURE, check_writing, chosen, on_policy, starts
from distillab.training.step_timer import StepTimer

PROMPT = LENGTH // 4
END = 0
RECIPE = {"epochs": 2, "batch_size": 64, "lr": 3e-3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    tokenizer = tokenizer_folder(place / "tokenizer")
    return [text_data(place, tokenizer, on_policy=1.0, conversations=talk, samples=200) for talk in (False, True)]


@pytest.fixture(scope="module")
def text(made):
    return made[0]


@pytest.fixture(scope="module")
def teacher(text):
    return taught(small_llama(1), text, 20)


def writing_module(text, teacher, *, share=1.0, student=None, **how):
    """A module as it stands in epoch 0 of a fit, and a batch of it."""
    module, _ = distilling(student or small_llama(0, width=16), teacher, **how)
    module.trainer = module.engine = trainer(1)  # it is held weakly
    module.writing = replace(text.writing, share=share)
    return module, next(iter(text.configure(8, 0).train_dataloader()))


def reference(model, ids, documents, start, draws):
    """The same writing without kept keys: the whole block runs for every token, each row by itself."""
    found = []
    for row, begin, numbers, own in zip(ids.tolist(), start.tolist(), draws.tolist(), documents.tolist(), strict=True):
        row, own = row[:begin], own[:begin]
        for draw in numbers[begin:]:
            inputs = {"input_ids": torch.tensor([row]), "documents": torch.tensor([own])}
            p = (model(**inputs)[0, -1].double() / TEMPERATURE).softmax(-1).tolist()
            token, reached = 0, p[0]
            while reached <= draw and token < len(p) - 1:
                token += 1
                reached += p[token]
            row, own = [*row, token], [*own, own[-1]]
            if token == END:
                break
        found.append(F.pad(torch.tensor(row), (0, LENGTH - len(row))))
    return torch.stack(found)


def absolute():
    """A model that knows positions, where a Llama knows distances alone."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=TOKENS, n_positions=LENGTH, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CausalLM(GPT2LMHeadModel(config), TOKENS, LENGTH)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_keys_that_are_kept_change_no_token(text, kind):
    model = taught(small_llama(0, width=16) if kind == "llama" else absolute(), text, 40)
    model.net.double()
    for layer in model.net.model.layers if kind == "llama" else ():  # a GPT-2 has dropout anyway
        layer.self_attn.attention_dropout = 0.2
    batch = text.collection.blocks.batch(torch.arange(12), AS_STORED)
    ids, documents = batch.inputs[0]["input_ids"], batch.inputs[0]["documents"]
    assert any(len(row.unique()) > 1 for row in documents[:, :PROMPT])  # prompts of two documents among them
    start = torch.tensor([PROMPT, PROMPT + 5, LENGTH, 1] * 3)
    draws = torch.rand(12, LENGTH, generator=torch.Generator().manual_seed(0))
    ended = torch.tensor([END])
    model.train()
    own = write(model, ids, documents, start=start, draws=draws, ends=ended, temperature=TEMPERATURE)
    assert model.training and not own.requires_grad
    expected = reference(model.eval(), ids, documents, start, draws)
    assert torch.equal(own, expected)
    assert torch.equal(own[2], ids[2]) and torch.equal(own[1, : PROMPT + 5], ids[1, : PROMPT + 5])
    assert any(END in row[begin:] for row, begin in zip(own.tolist(), start.tolist(), strict=True))  # some texts end


@pytest.mark.parametrize("conversations", [False, True])
def test_a_written_batch(made, teacher, conversations):
    module, batch = writing_module(made[conversations], teacher)
    new = on_policy(module, batch, 0)
    ids, documents = (new.inputs[0][name] for name in ("input_ids", "documents"))
    old, labels, written = batch.inputs[0]["input_ids"], new.labels, new.targets["written"]
    start = starts(batch.labels, PROMPT)
    assert new.view_number == AS_STORED and new.step_rows == batch.rows and (start < LENGTH).any()
    for row, begin in enumerate(start.tolist()):
        assert torch.equal(ids[row, :begin], old[row, :begin])
        assert torch.equal(labels[row, : begin - 1], batch.labels[row, : begin - 1])
        assert not written[row, : begin - 1].any() and begin >= PROMPT
        if begin == LENGTH:
            continue
        assert batch.labels[row, begin - 1] != IGNORED  # it begins where an answer does, or in a document
        end = next((place for place in range(begin, LENGTH) if ids[row, place] == END), LENGTH - 1)
        assert written[row, begin - 1 : end].all() and not written[row, end:].any()
        assert torch.equal(labels[row, begin - 1 : end], ids[row, begin : end + 1])
        assert (labels[row, end:] == IGNORED).all()
        assert (documents[row, begin : end + 1] == documents[row, begin - 1]).all()
        assert (documents[row, end + 1 :] == -1).all() and (new.targets["sizes"][row, begin - 1 :] == 0).all()
    assert torch.equal(on_policy(module, batch, 5).inputs[0]["input_ids"], ids)  # the number says only whether
    module.trainer.fit_loop.epoch_progress.current.completed = 1
    assert module.current_epoch == 1
    assert not torch.equal(on_policy(module, batch, 0).inputs[0]["input_ids"], ids)


def test_labels_count_what_was_written_by_others_and_divergences_all(text, teacher):
    module, batch = writing_module(text, teacher)
    new = on_policy(module, batch, 0)
    losses = module.losses(new, ("ce", "kd"))
    kept, written = new.labels != IGNORED, new.targets["written"]
    log_q = module.student(**new.inputs[0]).log_softmax(-1)
    log_p = teacher(**new.inputs[0]).log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    nll = F.nll_loss(log_q.transpose(1, 2), new.labels.clamp(min=0), reduction="none")
    assert 0 < (kept & ~written).sum() < kept.sum() <= batch.rows
    torch.testing.assert_close(losses["kd"], 0.5 * kl[kept].sum() / batch.rows)
    torch.testing.assert_close(losses["ce"], 0.5 * nll[kept & ~written].sum() / batch.rows)


def test_a_step_of_written_batches_has_one_gradient_however_it_is_cut(text, teacher):
    found = []
    for size, parts in ((8, 1), (4, 2)):
        module, _ = writing_module(text, teacher)
        module.trainer = engine = trainer(1, accumulate_grad_batches=parts)
        loader = text.configure(size, 0, accumulate=parts).train_dataloader()
        for number, batch in zip(range(parts), loader, strict=False):
            (sum(module.losses(on_policy(module, batch, number), ("ce", "kd")).values()) / parts).backward()
        found.append(torch.cat([each.grad.flatten() for each in module.student.parameters()]))
        assert engine.accumulate_grad_batches == parts
    assert (found[0] - found[1]).norm() < 1e-5 * found[0].norm()


def test_which_batches_are_written_is_a_function_of_seed_epoch_and_number():
    drawn = [chosen(0.5, 3, epoch, number) for epoch in range(4) for number in range(500)]
    assert 0.45 < sum(drawn) / len(drawn) < 0.55
    assert drawn == [chosen(0.5, 3, epoch, number) for epoch in range(4) for number in range(500)]
    assert drawn[:500] != drawn[500:1000] and drawn[:500] != [chosen(0.5, 4, 0, number) for number in range(500)]
    assert all(chosen(1.0, 0, 0, n) and not chosen(0.0, 0, 0, n) for n in range(99))


def test_a_resumed_fit_writes_the_same_and_the_cache_holds_text_alone(text, teacher, tmp_path):
    data = text.configure(64, 0, accumulate=1)
    data.on_policy = 0.5
    modules, timer = [], StepTimer()

    def make():
        student = small_llama(0, width=16)
        for layer in student.net.model.layers:
            layer.self_attn.attention_dropout = 0.2
        modules.append(distilling(student, teacher, folder=tmp_path / f"cache{len(modules)}", recipe=RECIPE)[0])
        return modules[-1]

    whole, resumed = stop_and_resume(make, lambda module: data, 3, 2, tmp_path)
    assert_equal(whole, resumed)
    plain = make()
    data.on_policy = 0.0
    trainer(2).fit(plain, datamodule=data)
    assert any((plain.state_dict()[name] != value).any() for name, value in whole.items())
    # Two epochs of four batches; those that were written ran live, and are no records.
    steps = [(epoch, number) for epoch in range(2) for number in range(len(data.train_dataloader()))]
    asked = {False: 0, True: 0}
    for epoch, number in steps:
        asked[chosen(0.5, 0, epoch, number)] += 1
    assert min(asked.values()) > 0 and modules[0].teacher.computed < plain.teacher.computed == 200
    data.on_policy = 1.0
    trainer(1, callbacks=[timer]).fit(make(), datamodule=data)
    assert timer.figures["time"]["writing"] > 0 and modules[-1].teacher.computed == 0
    assert timer.figures["teacher_samples_computed"] == 200 and timer.figures["time"]["student"] > 0
    parts = [timer.figures["time"][name] for name in ("teacher", "writing", "data", "student")]
    assert sum(parts) == pytest.approx(timer.totals["loop"])


def test_a_student_without_a_teacher_never_writes(text):
    module = Distillation(small_llama(0, width=16), task=LanguageModeling(LENGTH, TOKENS))
    timer = StepTimer()
    trainer(1, callbacks=[timer]).fit(module, datamodule=text.configure(64, 0))
    assert module.writing is None and "writing" not in timer.figures["time"]


def test_what_cannot_work_is_refused(text, tmp_path):
    plain = CausalLM(torch.nn.Embedding(TOKENS, TOKENS), TOKENS, LENGTH)
    with pytest.raises(UserError, match=r"keeps no keys and values.*data\.on_policy=0"):
        check_writing(text.writing, plain, "offline")
    with pytest.raises(UserError, match="scheme=mutual has several students"):
        check_writing(text.writing, small_llama(0, width=16), "mutual")
    with pytest.raises(UserError, match="scheme=self smooths labels"):
        check_writing(text.writing, small_llama(0, width=16), "self")
    check_writing(None, plain, "mutual")
    with pytest.raises(UserError, match=rf"data\.prompt must be below data\.length={LENGTH}.*data\.prompt={PROMPT}"):
        type(text)("x", path="here", length=LENGTH, prompt=LENGTH)
    with pytest.raises(UserError, match=r"data\.on_policy must be"):
        type(text)("x", path="here", on_policy=1.5)
    assert text.writing == Writing(1.0, PROMPT, (END,))
