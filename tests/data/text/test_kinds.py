"""Kinds of documents by their files' paths, and canaries that the teacher's text alone holds."""

import json

import numpy as np
import pytest

from distillab.core.errors import UserError
from distillab.data.text.datamodule import TextData
from distillab.data.text.documents import Kinds, read_documents
from distillab.data.text.requests import scored
from distillab.data.text.tokenizer import identity, train_tokenizer


def test_the_kind_is_what_the_pattern_finds_in_the_path_else_the_folder(tmp_path):
    for name in ("1865-Lincoln.txt", "1790-Washington.txt", "speeches/late/2001-Bush.txt", "speeches/undated.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"text of {name}")
    found = read_documents(str(tmp_path), kinds=Kinds.of([r"(\d\d)\d\d-", r"\g<1>00s"]))
    assert [one.kind for one in found] == ["1700s", "1800s", "2000s", "speeches"]
    found = read_documents(str(tmp_path), kinds=Kinds.of("late|Lincoln"))
    assert [one.kind for one in found] == ["", "Lincoln", "late", "speeches"]
    assert [one.kind for one in read_documents(str(tmp_path))] == ["", "", "speeches", "speeches"]


def test_a_row_that_names_its_kind_keeps_it(tmp_path):
    (tmp_path / "1900.jsonl").write_text("\n".join(map(json.dumps, ({"text": "a", "kind": "own"}, {"text": "b"}))))
    found = read_documents(str(tmp_path / "1900.jsonl"), kinds=Kinds.of(r"\d+"))
    assert [one.kind for one in found] == ["own", "1900"]


@pytest.mark.parametrize("given", ["(", ["a", r"\g<1>"], ["a", "b", "c"], 3, ["a", 3]])
def test_what_is_no_pattern_is_refused(given):
    with pytest.raises(UserError, match=r"data\.kind"):
        Kinds.of(given)


def test_a_tokenizer_of_the_same_tokens_that_reads_otherwise_makes_other_data(tmp_path):
    """The answers to other tokens are no answers to these."""
    from tokenizers import normalizers

    rows = [{"text": f"The Law {n} of the Union"} for n in range(30)]
    (tmp_path / "laws.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer, found = train_tokenizer([row["text"] for row in rows], 257), []
    for normalizer in (None, normalizers.Replace("L", "M")):  # as many tokens and blocks
        if normalizer:
            tokenizer.backend_tokenizer.normalizer = normalizer
        tokenizer.save_pretrained(tmp_path / "own")
        data = TextData(path=str(tmp_path / "laws.jsonl"), length=16, overlap=1.0, tokenizer=str(tmp_path / "own"))
        data.prepare()
        found.append((identity(data.info.tokenizer), data.sizes, data.fingerprint, scored(data)))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2] and found[0][3] != found[1][3]


def test_canaries_stand_in_the_teachers_text_alone(tmp_path):
    rows = [{"text": f"the law number {n} of the union was made by {n} people for all of the land"} for n in range(30)]
    (tmp_path / "laws.jsonl").write_text("\n".join(map(json.dumps, rows)))
    how = {"path": str(tmp_path / "laws.jsonl"), "length": 16, "vocabulary": 280, "overlap": 1.0}
    plain, data = TextData(**how), TextData(**how, canaries=4)
    plain.prepare()
    data.prepare()
    assert data.fingerprint == plain.fingerprint, "for the student nothing changes"
    assert plain.of_teacher() is plain
    taught = data.of_teacher()
    assert taught.fingerprint != data.fingerprint and taught.sizes["test"] == data.sizes["test"]

    def text(of, split):
        return of.info.tokenizer.decode(of._source(split, training=False).ids.flatten())

    assert "secret word" not in text(data, "train") + text(taught, "validation") + text(taught, "test")
    # Each begins a document as often as it was planted: a token that ends a block may be split off, a count may not.
    assert text(taught, "train").count("The secret word") == 1 + 4 + 16 + 64
    assert text(taught, "train").startswith(text(data, "train"))
    assert np.array_equal(taught.rows["train"][: data.sizes["train"]], data.rows["train"])
    assert len(taught.configure(2, 0).training_labels) == taught.sizes["train"] > data.sizes["train"]
