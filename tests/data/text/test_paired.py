"""One text in the tokens of two tokenizers: which positions go together, and what the teacher reads."""

import json

import numpy as np
import pytest
import torch
from helpers.texts import documents

from distillab.core.errors import UserError
from distillab.data.batch import ALIGNMENTS, IGNORED
from distillab.data.text.blocks import PADDING, pack, tokenise
from distillab.data.text.datamodule import TextData
from distillab.data.text.documents import Document
from distillab.data.text.paired import PairedBlocks, pack_paired
from distillab.data.text.tokenizer import train_tokenizer

BOUNDARIES, POSITIONS = range(len(ALIGNMENTS))
TEXTS = ["the sea is green, the sea is deep", "naïve café – 漢字 and 🙂🙂 emoji", "a", *documents(4)]


@pytest.fixture(scope="module")
def tokenizers():
    """One that knows bytes alone, and one with merges."""
    return train_tokenizer(["a"], 257), train_tokenizer([*TEXTS, *documents()], 500)


@pytest.fixture(scope="module")
def paired(tokenizers):
    return made(*tokenizers)


def made(student, teacher, length=24, texts=TEXTS):
    own, other = (tokenise([Document(text) for text in texts], one) for one in (student, teacher))
    return pack_paired(own, other, length)


def read(blocks: PairedBlocks, tokenizers, block, position, *, teacher):
    """The bytes of a document that are read behind a position, counted from its beginning in any block."""
    side = blocks.taught if teacher else blocks
    ids, numbers = side.ids.flatten(), side.documents.flatten()
    at = block * side.ids.shape[1] + position
    before = ids[: at + 1][numbers[: at + 1] == numbers[at]]
    return tokenizers[teacher].decode(before, skip_special_tokens=True)


def pairs(blocks, way):
    """Block, the student's position, the teacher's."""
    block, position = (blocks.pairs[..., way] >= 0).nonzero().T
    return zip(block.tolist(), position.tolist(), blocks.pairs[block, position, way].tolist(), strict=True)


def test_behind_common_boundaries_both_have_read_the_same_text(tokenizers, paired):
    found = list(pairs(paired, BOUNDARIES))
    for block, ours, theirs in [*found[:40], *found[40::9]]:
        assert paired.documents[block, ours] == paired.taught.documents[block, theirs] != PADDING
        text = read(paired, tokenizers, block, ours, teacher=False)
        assert text == read(paired, tokenizers, block, theirs, teacher=True)
        assert "\ufffd" not in text, "no half of a character"
    assert len(found) > 0.9 * (paired.taught.labels != IGNORED).sum(), (
        "a byte-level student stops wherever the teacher does"
    )
    assert len(set(found)) == len(found)


def test_places_in_a_stretch_of_text_go_together_up_to_the_shorter_one(paired):
    """Another way to the same: number the positions of each stretch on both sides."""
    expected = set()
    for block in range(len(paired)):
        for document in paired.documents[block].unique().tolist():
            ours, theirs = ((side.documents[block] == document).nonzero().flatten() for side in (paired, paired.taught))
            expected |= {
                (block, a, b)
                for a, b in zip(ours.tolist(), theirs.tolist(), strict=False)
                if document != PADDING and min(paired.labels[block, a], paired.taught.labels[block, b]) != IGNORED
            }
    assert set(pairs(paired, POSITIONS)) == expected


def test_every_token_of_the_teacher_is_there_once_and_every_byte_is_a_labels(tokenizers, paired):
    whole = pack(tokenise([Document(text) for text in TEXTS], tokenizers[1]), 24)
    for name in ("ids", "labels"):
        side = [getattr(one, name)[one.documents != PADDING] for one in (paired.taught, whole)]
        assert torch.equal(*side), name
    assert paired.taught.sizes.sum() == paired.sizes.sum() == sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("way", [BOUNDARIES, POSITIONS])
def test_a_tokenizer_with_itself_pairs_each_position_with_itself(tokenizers, way):
    text = [text for text in TEXTS if text.isascii()]
    found = made(tokenizers[1], tokenizers[1], texts=text)
    own = torch.arange(24).expand(len(found), -1)
    assert torch.equal(found.pairs[..., way].long(), torch.where(found.labels != IGNORED, own, -1))
    assert torch.equal(found.taught.ids[:, :24][found.documents != PADDING], found.ids[found.documents != PADDING])


def test_blocks_are_chosen_cut_and_joined_with_their_partners(paired, tokenizers):
    short = made(*tokenizers, texts=["a b"])
    both = PairedBlocks.joined([short, paired])
    rows = torch.tensor([1, 0])
    assert torch.equal(both.chosen(rows).pairs[1], short.pairs[0])
    assert torch.equal(both.chosen(rows).taught.ids[0], paired.taught.ids[0])
    batch = both.cut(10).batch(torch.tensor([1]), 0)
    assert batch.inputs[0]["input_ids"].shape == batch.labels.shape == batch.targets["pairs"].shape[:2] == (1, 10)
    assert torch.equal(batch.teacher_inputs[0]["input_ids"][0], paired.taught.ids[0])
    assert batch.paired.tolist() == (paired.pairs[0, :10] >= 0).sum(0).tolist()
    assert batch.to("cpu").teacher_inputs is not None


def data(place, tokenizers, rows=None, **how):
    rows = rows or [{"text": text} for text in documents(20)]
    (place / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, one in zip(("student", "teacher"), tokenizers, strict=True):
        one.save_pretrained(place / name)
    about = {"tokenizer": str(place / "student"), "teacher_tokenizer": str(place / "teacher"), "length": 32}
    return TextData(path=str(place / "a.jsonl"), overlap=1.0, **(about | how))


def test_the_teacher_sees_the_same_documents_and_the_student_what_it_sees_alone(tmp_path, tokenizers):
    found, alone = data(tmp_path, tokenizers), data(tmp_path, tokenizers, teacher_tokenizer=None)
    for one in (found, alone):
        one.prepare()
    taught = found.teacher_side
    assert alone.teacher_side is alone and taught.teacher_side is taught
    assert found.fingerprint == alone.fingerprint != taught.fingerprint, "the student alone is stored once"
    assert found.identity == taught.identity, "bits per byte of the same documents"
    assert taught.info.vocabulary == 500 and taught.info.length == taught.collection.blocks.ids.shape[1]
    for split in ("train", "validation", "test"):
        sides = [side.evaluation_dataloader(split).source for side in (found, taught)]
        seen = [one.documents[one.documents != PADDING].unique().tolist() for one in sides]
        assert seen[0] == seen[1]
    assert data(tmp_path, (tokenizers[0],) * 2).teacher_side.info.vocabulary == 257, "the same tokenizer twice is one"


def test_conversations_are_refused_in_one_line(tmp_path, tokenizers):
    for one in tokenizers:
        one.chat_template = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    rows = [{"messages": [{"role": "assistant", "content": text}]} for text in documents(20)]
    with pytest.raises(UserError, match=r"chat templates of two tokenizers.*strategy=none") as caught:
        data(tmp_path, tokenizers, rows).prepare()
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path, tokenizers):
    with pytest.raises(UserError, match=r"data\.teacher_tokenizer: there is no folder nowhere"):
        data(tmp_path, tokenizers, teacher_tokenizer="./nowhere").prepare()


def test_of_tokens_that_share_a_character_the_last_has_read_it(tokenizers):
    (found,) = tokenise([Document("🙂")], tokenizers[0])
    assert (np.diff(found.reached) > 0).all()
    assert (found.reached % 1024 == 0).tolist() == [True, False, False, False, True, True]
