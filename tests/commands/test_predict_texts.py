"""What language models tell of lines of text: the bits of the test, and the likeliest continuation."""

import json
from collections import namedtuple

import pytest
import torch
from helpers.small_text import LENGTH, sentences, small_llama, taught, text_data, tokenizer_folder

from distillab.commands.predicting import texts
from distillab.commands.predicting.networks import Network
from distillab.core.errors import UserError
from distillab.data.text.blocks import pack, tokenise
from distillab.data.text.documents import Document
from distillab.evaluation.token_scores import bits_per_byte
from distillab.tasks.causal_lm import LanguageModeling


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    data = text_data(folder, tokenizer_folder(folder / "tokenizer"))
    return Network("student", taught(small_llama(0), data, 30).eval(), tokenizer=data.info.tokenizer)


def measured(network, text):
    """As the task measures a split that holds this text alone."""
    blocks = pack(tokenise([Document(text)], network.tokenizer), LENGTH)
    batch = blocks.batch(torch.arange(len(blocks)), 0)
    data = namedtuple("Data", "evaluation_dataloader")(lambda split: [batch])
    return bits_per_byte(LanguageModeling().predictions(network.model, data, "test", "cpu")[0])


def test_bits_are_those_of_the_test_whatever_else_is_asked(network):
    long = " ".join(sentences(3))
    asked = ["the sea", long, "a boat goes over", "the sea"]
    found = texts.told(network, asked, tokens=4)
    assert len(long) > 2 * LENGTH, "more than one block"
    assert [one.bits_per_byte for one in found] == pytest.approx([measured(network, text) for text in asked], abs=1e-4)
    assert found[0] == found[3] and found[0].bits_per_byte != found[2].bits_per_byte


def test_continuations_are_the_likeliest_tokens_of_what_fits(network):
    text = sentences(1)[0][:12]
    (one,) = texts.told(network, [text], tokens=5)
    ids = torch.from_numpy(tokenise([Document(text)], network.tokenizer)[0].ids[:-1])[None]
    for _ in range(5):
        ids = torch.cat([ids, network.model(ids)[:, -1:].argmax(-1)], 1)
    assert one.continuation == network.tokenizer.decode(ids[0, -5:], skip_special_tokens=True)
    assert texts.room(network.model, 5) == (LENGTH - 5, 5)
    assert texts.room(network.model, 30) == (LENGTH // 2, 30)
    with pytest.raises(UserError, match="tokens=5000 are more than there is room for"):
        texts.check_tokens([network], 5000)


def test_lines_are_read_one_by_one_and_odd_ones_are_named(tmp_path):
    plain, rows, other, gone = (tmp_path / name for name in ("a.txt", "b.jsonl", "c.txt", "gone.txt"))
    plain.write_bytes("\ufeffone\r\n\r\n \nzwei ü\u2028drei\n".encode())
    good = [
        json.dumps({"text": "two\nlines"}),
        "",
        json.dumps({"text": 3}),
        "[" * 100_000,
        '"text"',
        '{"text": "\\ud800"}',
    ]
    rows.write_text("\n".join(good))
    other.write_bytes(b"caf\xe9\n")
    found = list(texts.lines(list(map(str, (plain, rows, other, gone)))))
    assert [(one.number, one.text) for one in found if not one.refusal] == [
        (1, "one"),
        (4, "zwei ü\u2028drei"),
        (1, "two\nlines"),
    ]
    refusals = [one.refusal for one in found if one.refusal]
    for said, part in zip(
        refusals, ("line 3", "line 4", "line 5", "half a character", "not UTF-8", "cannot be read"), strict=True
    ):
        assert part in said


def test_a_row_has_both_networks(network, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the sea\na boat\n")
    found = list(texts.predicted([network, network], texts.lines([str(file)]), batch_size=8, tokens=3))
    assert [list(row) for _, row in found] == [[*texts.COLUMNS, *texts.BESIDE]] * 2
    assert [row["line"] for _, row in found] == [1, 2]
    assert all(row["bits_per_byte"] == row["teacher_bits_per_byte"] for _, row in found)
