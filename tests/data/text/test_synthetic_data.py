"""Text that a teacher wrote as training data: kept rows alone, mixed by blocks, judged on the same real text."""

import json
from pathlib import Path

import pytest
from helpers.texts import documents, write

from distillab.core.errors import UserError
from distillab.data.text import synthetic_data
from distillab.data.text.datamodule import TextData
from distillab.data.text.synthetic_data import SyntheticText

COMMON = {"vocabulary": 300, "length": 32}


@pytest.fixture
def real(tmp_path):
    return str(write(tmp_path, 20))


@pytest.fixture
def written(monkeypatch):
    """A root whose kept texts are other help topics."""
    monkeypatch.setattr(synthetic_data, "kept_texts", lambda root: iter(documents(80)[50:70]))


def made(path, **how):
    data = SyntheticText("root", path=path, **COMMON, **how)
    data.prepare()
    return data


def texts(data, split="train"):
    blocks = data.collection.blocks.chosen(data.rows[split])
    return [data.info.tokenizer.decode(ids) for ids in blocks.ids]


def test_the_teachers_text_is_learned_and_the_real_text_is_held_out(real, written):
    data, plain = made(real), TextData("x", path=real, **COMMON)
    plain.prepare()
    assert data.identity == plain.identity and data.fingerprint != plain.fingerprint
    assert texts(data, "test") == texts(plain, "test") and texts(data, "validation") == texts(plain, "validation")
    assert data.collection.classes == ("synthetic",)
    joined = "".join(texts(data))
    assert all(text[:200] in joined.replace("<|endoftext|>", "") for text in documents(80)[50:52])
    assert not any(text[:200] in joined for text in documents(20))


def test_a_mixture_has_its_share_of_blocks_also_of_a_part(real, written):
    data = made(real, real=0.25)
    labels = data.collection.labels[data.rows["train"]]
    assert data.collection.classes == ("real", "synthetic")
    assert (labels == 0).mean() == pytest.approx(0.25, abs=0.01)
    few = data.with_samples(40)
    assert (few.collection.labels[few.rows["train"]] == 0).sum() == 10
    assert set(texts(few)) <= set(texts(data))


def test_a_share_of_one_is_the_real_text_alone(real):
    data, plain = made(real, real=1.0), TextData("x", path=real, **COMMON)
    plain.prepare()
    assert texts(data) == texts(plain)


def test_what_repeats_held_out_text_is_left_out(real, monkeypatch):
    plain = TextData("x", path=real, **COMMON)
    plain.prepare()
    rows = [json.loads(line)["text"] for line in Path(real).read_text().splitlines()]
    monkeypatch.setattr(synthetic_data, "kept_texts", lambda root: iter([*documents(80)[60:64], *rows]))
    data = made(real)
    held_out = "".join(texts(plain, "test"))
    leaked = [text for text in rows if text[100:200] in held_out]
    assert leaked and not any(text[100:200] in "".join(texts(data)) for text in leaked)


def test_a_root_that_is_not_there_is_one_line(real):
    with pytest.raises(UserError, match=r"^data\.root: there is no synthetic text in root"):
        made(real)
