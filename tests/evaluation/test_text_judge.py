"""What is told of language models beside their metrics, against closed forms and the same computed another way."""

from types import SimpleNamespace

import pytest
import torch

from distillab.data.text.blocks import Blocks, pack, tokenise
from distillab.data.text.canaries import canaries, insertions, planted_blocks
from distillab.data.text.documents import Document
from distillab.data.text.tokenizer import train_tokenizer
from distillab.evaluation import kinds
from distillab.evaluation.acceptance import acceptance
from distillab.evaluation.canaries import exposure, exposures, losses
from distillab.evaluation.canaries import words as canary_words
from distillab.evaluation.generation import speed, write
from distillab.evaluation.judge import judge
from distillab.evaluation.metrics import against_teacher as of_classes
from distillab.evaluation.text_roles import against_teacher
from distillab.evaluation.token_scores import token_scores
from distillab.models.causal_lm import CausalLM, llama

LENGTH = 16
TEXTS = [f"the law number {place} of the union is made by the people and for the people" for place in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 280)


@pytest.fixture(scope="module")
def pair(tokenizer):
    """Two networks that differ, whose answers are far from uniform."""

    def made(seed, width):
        torch.manual_seed(seed)
        net = llama(len(tokenizer), LENGTH, width=width, layers=1, heads=2, hidden=48)
        with torch.no_grad():
            net.get_input_embeddings().weight.mul_(15)
        return CausalLM(net.eval(), len(tokenizer), LENGTH)

    return made(0, 32), made(1, 16)


def test_acceptance_is_the_overlap_of_the_distributions_at_the_students_own_prefixes(pair, tokenizer):
    student, teacher = pair
    prompts, end = torch.randint(1, 280, (6, 5), generator=torch.Generator().manual_seed(0)), tokenizer.eos_token_id
    found = acceptance(student, teacher, prompts, 4, seed=3, end=end)
    written, kept = write(student, prompts, 4, seed=3, end=end), []
    for row in written:
        for place in range(5, len(row)):
            if end in row[5:place]:
                break
            with torch.no_grad():
                q, p = (model(row[None, :place])[0, -1].softmax(-1) for model in (student, teacher))
            kept.append(1 - 0.5 * (p - q).abs().sum().item())
    assert found.tokens == len(kept) and found.rate == pytest.approx(sum(kept) / len(kept), abs=1e-6)
    assert 0.02 < found.rate < 0.98
    assert acceptance(teacher, teacher, prompts, 4, seed=3, end=end).rate == pytest.approx(1, abs=1e-6)


def test_what_is_written_is_drawn_from_the_whole_distribution_and_from_the_seed(pair):
    student, _ = pair
    state = torch.get_rng_state()
    prompts = torch.full((4000, 1), 7)
    drawn = write(student, prompts, 1, seed=1)[:, 1]
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        p = student(prompts[:1])[0, -1].softmax(-1)
    often = torch.bincount(drawn, minlength=280) / 4000
    assert (often - p).abs().sum() / 2 < 0.12, "the distance of 4000 draws from themselves"
    assert torch.equal(drawn, write(student, prompts, 1, seed=1)[:, 1])
    assert not torch.equal(drawn, write(student, prompts, 1, seed=2)[:, 1])
    greedy = write(student, prompts[:1], 3)
    with torch.no_grad():
        assert all(student(greedy[:, :n])[0, -1].argmax() == greedy[0, n] for n in (1, 2, 3))


def test_outputs_without_a_token_are_never_written(pair):
    student, _ = pair
    narrow = CausalLM(student.net, 30, LENGTH)
    assert write(narrow, torch.full((200, 1), 7), 3, seed=0).max() < 30


def test_writing_is_timed_by_whole_texts(pair, monkeypatch):
    from distillab.evaluation import generation

    calls = []

    def timed(call, device, runs, seconds):
        calls.append(call.args[2])
        return [0.5, 0.1, 0.2] if len(calls) == 1 else [0.4, 0.8, 0.9], 0.3 / len(calls)

    monkeypatch.setattr(generation, "steady_timings", timed)
    found = speed(pair[0])
    assert calls == [1, 8] and (found.prompt, found.new) == (8, 8)
    assert found.first_token_ms == pytest.approx(200) and found.tokens_per_second == pytest.approx(8 / 0.8)
    assert found.spread == 0.3 and not found.steady
    weights = 4 * sum(parameter.numel() for parameter in pair[0].parameters())
    assert weights < found.peak_memory_bytes < 20 * weights


def test_exposure_is_the_bits_by_which_the_rank_beats_chance():
    others = torch.arange(7.0)
    own = torch.tensor([-1.0, 2.5, 99.0, 0.0])
    assert exposures(torch.cat([own, others]), 4) == pytest.approx([3, 1, 0, 2])


def test_a_text_that_was_learned_is_exposed_and_one_that_was_not_is_not(tokenizer):
    texts = canaries(4 + 255, seed=0)
    assert len(set(texts)) == len(texts) and texts[:6] == canaries(6, seed=0) != canaries(6, seed=1)
    blocks = planted_blocks(texts[:2], tokenizer, 32, first=100)
    planted = tokenise([Document(text) for text in texts[:2]], tokenizer)
    assert insertions(6) == [1, 4, 16, 64, 1, 4]
    assert len(set(blocks.documents[blocks.documents >= 0].tolist())) == 5 and blocks.documents.max() == 104
    assert (blocks.labels != -100).sum() == sum(n * (len(one.ids) - 1) for n, one in zip((1, 4), planted, strict=True))
    torch.manual_seed(0)
    model = CausalLM(llama(280, 64, width=32, layers=1, heads=2, hidden=48), 280, 64)
    before = exposure({"student": model}, texts, insertions(4), tokenizer)
    learned = pack(tokenise([Document(text) for text in texts[:2]], tokenizer), 64)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(40):
        logits = model(input_ids=learned.ids, documents=learned.documents).flatten(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, learned.labels.flatten(), ignore_index=-100).backward()
        optimizer.step()
    after = exposure({"teacher": model}, texts, insertions(4), tokenizer)
    assert after.most == 8 and after.exposure["teacher"][:2] == [8, 8]
    assert sum(after.exposure["teacher"][2:]) < 12 and max(before.exposure["student"]) < 8
    (said,) = canary_words(after)
    assert "in the teacher" in said and "64 times" in said and "at most 8.0" in said
    # Many texts at once are as each alone.
    alone = torch.cat([losses(model, [text], tokenizer) for text in texts[:3]])
    assert torch.allclose(losses(model, texts[:70], tokenizer)[:3], alone, atol=1e-5)


def test_windows_lie_in_one_document_each_and_at_starts_where_one_begins():
    documents = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 2], [2, 2, 2, -1]])
    blocks = Blocks(torch.arange(12).view(3, 4), *(documents,) * 3)
    assert blocks.windows(9, 3).tolist() == [[n, n + 1, n + 2] for n in (0, 1, 2, 7, 8)]
    assert blocks.windows(9, 2, at_starts=True).tolist() == [[0, 1], [5, 6], [7, 8]]
    assert blocks.windows(2, 3).tolist() == [[0, 1, 2], [8, 9, 10]]
    assert blocks.windows(2, 6).shape == (0, 6)


def test_repeated_errors_are_those_of_classes():
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (400,), generator=draw)
    logits, teacher = torch.randn(2, 400, 6, generator=draw)
    logits += teacher
    about = (torch.ones(400), torch.zeros(400))
    found = against_teacher(*(token_scores(rows, labels, *about) for rows in (logits, teacher)), labels)
    known = of_classes(logits, teacher, labels)
    for key in ("agreement", "teacher_errors", "repeated_errors"):
        assert getattr(found, key) == pytest.approx(getattr(known, key)), key


def scores(nats, documents):
    """Token scores of one token of a byte each."""
    rows = torch.zeros(len(nats), 6, dtype=torch.float64)
    rows[:, 0], rows[:, 4], rows[:, 5] = torch.tensor(nats).double(), 1, torch.tensor(documents)
    return rows


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ((3.0, 3.01, 1.0, 1.0), "the student took that over"),
        ((1.8, 1.81, 1.0, 1.0), "the student did not take that over"),
        ((3.0, 1.0, 1.0, 1.0), "whether the student took that over is not shown"),
        ((3.0, 3.01, 3.0, 3.0), "the student did not take that over"),
    ],
)
def test_a_weakness_is_taken_over_where_the_loss_is_larger_than_elsewhere(student, said):
    names = ("old", "old", "new", "new")
    known = {"teacher": (5.0, 5.0, 1.0, 1.0), "baseline": (2.0, 2.0, 1.0, 1.0), "student": student}
    rows = {role: scores(nats, range(4)) for role, nats in known.items()}
    found = kinds.kinds(rows, names)
    assert {kind.name: kind.bytes for kind in found} == {"old": 2, "new": 2}
    (told,) = kinds.words(found, rows, names)
    assert said in told and "worst on old (7.213 bits per byte, 4.328 over all)" in told


def test_kinds_of_one_sort_say_nothing():
    rows = {role: scores([1.0, 2.0], [0, 1]) for role in ("teacher", "baseline", "student")}
    assert kinds.kinds(rows, ("a", "a")) == [] and kinds.words([], rows, ("a", "a")) == []


def test_the_part_of_the_result_has_all_of_it(pair, tokenizer, monkeypatch):
    from distillab.evaluation import generation

    monkeypatch.setattr(generation, "steady_timings", lambda *_: ([0.1], 0.0))
    student, teacher = pair
    blocks = pack(tokenise([Document(text) for text in TEXTS], tokenizer), LENGTH)
    info = SimpleNamespace(documents=("a", "b") * 6, tokenizer=tokenizer, vocabulary=280)
    data = SimpleNamespace(info=info, length=LENGTH, test_blocks=blocks, canaries=4, split_seed=0)
    rows = {role: scores([1.0, 2.0], [0, 1]) for role in ("teacher", "baseline", "student")}
    found = judge({"teacher": teacher, "baseline": student, "student": student}, rows, data, "cpu")
    assert found.acceptance["student"] == found.acceptance["baseline"] and found.generation.keys() == {
        "teacher",
        "student",
    }
    assert [one.continuations.keys() for one in found.samples] == [{"teacher", "baseline", "student"}] * 3
    starts = [next(place for place, text in enumerate(TEXTS) if text.startswith(one.prompt)) for one in found.samples]
    assert starts == sorted(starts)
    assert found.canaries.insertions == [1, 4, 16, 64] and len(found.sentences) == 2
    other = CausalLM(teacher.net, 270, LENGTH)
    apart = judge({"teacher": other, "student": student}, rows, data, "cpu")
    assert apart.generation.keys() == {"student"} and not apart.acceptance, "its tokens are others"
    plain = SimpleNamespace(parameters=lambda: iter([torch.zeros(1)]), to=lambda device: None)
    alone = judge({"student": plain}, {"student": rows["student"]}, data, "cpu")
    assert not alone.acceptance and not alone.generation and alone.canaries is None and alone.intervals["student"]
