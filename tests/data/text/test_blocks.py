"""Documents as tokens, and tokens as blocks: every token of text is predicted once, and none of another document."""

import json

import numpy as np
import pytest
import torch
from helpers.texts import documents

from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.data.text.blocks import PADDING, Tokens, pack, tokenise
from distillab.data.text.datamodule import TextData
from distillab.data.text.documents import Document
from distillab.data.text.tokenizer import END, ends, identity, train_tokenizer

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}A:{% generation %}{{ m['content'] }}{{ eos_token }}"
    "{% endgeneration %}{% else %}U:{{ m['content'] }}{% endif %}{% endfor %}"
)
TALK = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"})


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(documents(), 400)


def tokens(*ids, learned=None):
    ids = np.array(ids)
    learned = np.array([False] + [True] * (len(ids) - 1)) if learned is None else np.array(learned)
    return Tokens(ids, np.ones(len(ids), np.int64), learned)


def test_every_learned_token_is_the_label_of_one_position_and_no_label_crosses_documents():
    blocks = pack([tokens(9, 1, 2, 3, 9), tokens(9, 4, 9)], 3)
    assert blocks.ids.tolist() == [[9, 1, 2], [3, 9, 9], [4, 9, 0]]
    assert blocks.labels.tolist() == [[1, 2, 3], [9, IGNORED, 4], [9, IGNORED, IGNORED]]
    assert blocks.documents.tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, PADDING]]


def test_the_end_of_a_text_is_learned_although_its_id_pads_too(tokenizer):
    (found,) = tokenise([Document("a b")], tokenizer)
    assert tokenizer.pad_token_id is None and found.ids[0] == found.ids[-1] == tokenizer.eos_token_id
    blocks = pack([found], 16)
    assert (blocks.labels == tokenizer.eos_token_id).sum() == 1
    assert blocks.labels[0, len(found.ids) - 2] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    "text", ["plain words", "naïve café – 20 €", "漢字 and 🙂🙂 emoji", "a\u0301 combining", " \n\t "]
)
def test_the_sizes_of_the_tokens_add_up_to_the_bytes_of_the_text(tokenizer, text):
    (found,) = tokenise([Document(text)], tokenizer)
    assert found.sizes.sum() == len(text.encode())
    assert tokenizer.decode(found.ids[1:-1]) == text


@pytest.mark.parametrize("text", ["plain words  of 3 kinds ", "  naïve café – 20 €", " \n\t "])
def test_bytes_that_no_token_names_are_those_of_the_next(text):
    """Whatever the offsets leave out: all tokenizers count the same bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 1, "words": 2, "of": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    (found,) = tokenise([Document(text)], PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[END]"))
    assert found.sizes.sum() == len(text.encode()) and found.sizes[0] == 0
    if text.startswith("plain"):
        assert found.sizes.tolist() == [0, 5, 6, 4, 2, 6, 1], "plain, words, of, 3, kinds, and the space with the end"


def test_real_text_keeps_all_its_bytes_and_tokens(tokenizer):
    texts = documents()
    found = tokenise([Document(text) for text in texts], tokenizer)
    blocks = pack(found, 64)
    assert blocks.sizes.sum() == sum(len(text.encode()) for text in texts)
    assert (blocks.labels != IGNORED).sum() == sum(len(one.ids) - 1 for one in found)
    inside = blocks.labels[:, :-1] != IGNORED
    assert torch.equal(blocks.labels[:, :-1][inside], blocks.ids[:, 1:][inside])


def test_of_a_conversation_the_answers_alone_are_learned_with_the_token_that_ends_them(tokenizer):
    tokenizer.chat_template = TEMPLATE
    (found,) = tokenise([Document("", messages=TALK)], tokenizer)
    learned = tokenizer.decode(found.ids[found.learned])
    assert learned == f"good day{END}"
    assert found.sizes[found.learned].sum() == len("good day")


@pytest.mark.parametrize(
    "template, said",
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "generation"),
        ("{% generation %}{{ ''.__class__.__mro__ }}{% endgeneration %}", "cannot write a conversation .*unsafe"),
        ("{% generation %}{{ raise_exception('roles') }}{% endgeneration %}", r"cannot write a conversation \(roles\)"),
    ],
)
def test_a_template_that_does_not_show_the_answers_is_refused(tokenizer, template, said):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=said):
        tokenise([Document("", messages=TALK)], tokenizer)


def test_conversations_without_an_answer_teach_nothing_and_are_refused(tokenizer, tmp_path):
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in documents(20)]
    (tmp_path / "a.jsonl").write_text("".join(rows))
    data = TextData(path=str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "tokenizer"), length=8, overlap=1)
    with pytest.raises(UserError, match="no conversation of the training text has an answer"):
        data.prepare()


def test_tokenizers_are_the_same_where_their_ids_mean_the_same(tokenizer):
    assert identity(train_tokenizer(documents(), 400)) == identity(tokenizer)
    assert identity(train_tokenizer(documents(), 401)) != identity(tokenizer)
    assert ends(tokenizer, [5, tokenizer.eos_token_id]) == sorted({5, tokenizer.eos_token_id})


def test_a_vocabulary_without_a_token_for_each_byte_is_refused():
    with pytest.raises(UserError, match=r"data\.vocabulary must be 257 or more"):
        train_tokenizer(["a"], 100)
