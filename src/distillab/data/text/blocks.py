"""Packs tokens of documents into blocks of one length, with the next token of each as its label."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError, reason
from distillab.data.batch import IGNORED, Batch
from distillab.data.text.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PARTS = 1024  # of a character, which so many tokens may share at most
PADDING = -1  # the document number of positions behind the last one of a split


@dataclass(frozen=True)
class Tokens:
    """The tokens of one document (T,): ids, how many bytes of text each stands for, and whether a loss may count it.

    `reached` says how far the text is read behind each token, in parts of a character as `reached_by`; None of a conversation.
    """

    ids: np.ndarray
    sizes: np.ndarray
    learned: np.ndarray
    reached: np.ndarray | None = None


@dataclass(frozen=True)
class Blocks:
    """M blocks of L positions, all (M, L).

    A position's label is the token that follows in the same document, `IGNORED` where there is none or no loss counts
    it. Positions of different documents never see each other. `sizes` are the bytes of the label's text.
    """

    ids: Tensor
    labels: Tensor
    documents: Tensor  # number of the document, `PADDING` where there is none
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, index: Tensor, number: int) -> Batch:
        """The blocks `index` (n,), which look the same in every view."""
        inputs = {"input_ids": self.ids[index], "documents": self.documents[index]}
        return Batch([inputs], {"labels": self.labels[index], "sizes": self.sizes[index]}, index, number)

    @property
    def tokens(self) -> list[np.ndarray]:
        """What a model reads and learns of the blocks, for their hash."""
        return [each.numpy() for each in (self.ids, self.labels, self.documents)]

    def windows(self, count: int, length: int, *, at_starts: bool = False) -> Tensor:
        """At most `count` runs of `length` tokens (n, length), each of one document, evenly spaced over all blocks.

        The blocks lie one behind the other; `at_starts` takes the beginnings of documents alone.
        """
        ids, documents = self.ids.flatten(), self.documents.flatten()
        same = documents[: len(ids) - length + 1] == documents[length - 1 :]
        begins = torch.ones_like(same)
        if at_starts:
            begins[1:] = documents[1 : len(same)] != documents[: len(same) - 1]
        places = (same & begins & (documents[: len(same)] >= 0)).nonzero().flatten()
        chosen = places[torch.from_numpy(evenly(len(places), count))] if len(places) else places
        return ids[chosen[:, None] + torch.arange(length)]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The blocks of several parts, one behind the other."""
        return cls(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(cls)))

    def chosen(self, rows: Tensor) -> Self:
        """Some of the blocks."""
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))

    def cut(self, length: int) -> Self:
        """The first positions of every block."""
        names = ("ids", "labels", "documents", "sizes")
        return replace(self, **{name: getattr(self, name)[:, :length] for name in names})


def tokenise(documents: Sequence[Document], tokenizer: "PreTrainedTokenizerBase") -> list[Tokens]:
    """The tokens of each document, from the one that begins a text to the one that ends it.

    The first is the tokenizer's bos, or its eos where it has none; it is never a label. The last is the eos, which is,
    whatever id pads: a model that does not learn it never stops. Of a conversation the answers alone are learned.
    """
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    plain = [document.text for document in documents if document.messages is None]
    encoded = iter(_encode(plain, tokenizer))
    found = []
    for document in documents:
        if document.messages is not None:
            found.append(_conversation(document, tokenizer))
            continue
        ids, sizes, stops = next(encoded)
        whole = np.concatenate([[first], ids, [tokenizer.eos_token_id]])
        learned = np.ones(len(whole), bool)
        learned[0] = False
        reached = reached_by(np.concatenate([[0], stops, [len(document.text) + 1]]))
        # What stands behind the last token is read with the end.
        left = len(document.text.encode(errors="surrogatepass")) - sizes.sum()
        found.append(Tokens(whole, np.concatenate([[0], sizes, [left]]), learned, reached))
    return found


def _encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ids, bytes of text for each, and the character behind each, of several texts."""
    if not texts:
        return []
    out = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found = []
    for text, ids, pairs in zip(texts, out["input_ids"], out["offset_mapping"], strict=True):
        offsets = np.array(pairs, np.int64).reshape(-1, 2)
        found.append((np.array(ids, np.int64), _sizes(text, offsets), offsets[:, 1]))
    return found


def reached_by(stops: np.ndarray) -> np.ndarray:
    """How far a text is read behind tokens that end before these characters (T,), in `PARTS` of a character, ascending.

    Of several tokens that share a character the last has read it; each one before it stands a part earlier.
    """
    stops = np.maximum.accumulate(stops)
    later = np.searchsorted(stops, stops, side="right") - 1 - np.arange(len(stops))
    return stops * PARTS - np.minimum(later, PARTS - 1)


def _sizes(text: str, offsets: np.ndarray) -> np.ndarray:
    """Bytes that are read behind the token before and up to each token (T,).

    So a character that several tokens share counts once, for the first of them, and one that no token names, as a space in
    front of a word, for the token that follows.
    """
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    before = np.concatenate([[0], np.cumsum(1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000))])
    reached = np.maximum.accumulate(np.append(0, offsets[:, 1]))
    return before[reached[1:]] - before[reached[:-1]]


def _conversation(document: Document, tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """The tokens of a conversation in the tokenizer's chat template, whose generation markers say which are answers."""
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if template is None:
        raise UserError("data: the text is conversations, and the tokenizer has no chat template: data.tokenizer=…")
    if "{% generation %}" not in template.replace("{%-", "{%").replace("-%}", "%}"):
        raise UserError(
            "data: the tokenizer's chat template has no {% generation %} … {% endgeneration %} markers, so that it does "
            "not show which tokens are answers; add them around the assistant's content and its end token"
        )
    how = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    try:
        out = tokenizer.apply_chat_template(list(document.messages), **how)
    except Exception as error:  # a template is a program, of whoever made the model
        raise UserError(
            f"data: the tokenizer's chat template cannot write a conversation ({reason(error)}): data.tokenizer=…"
        ) from error
    ids = np.array(out["input_ids"], np.int64)
    learned = np.array(out["assistant_masks"], bool)
    sizes = np.array([len(tokenizer.decode([one], skip_special_tokens=True).encode()) for one in ids], np.int64)
    return Tokens(ids, sizes, learned)


def pack(documents: Sequence[Tokens], length: int) -> Blocks:
    """Blocks of `length` positions that hold the documents one behind the other, the last one padded.

    A document that reaches beyond a block goes on in the next one; every learned token is the label of one position.
    """
    total = sum(len(each.ids) for each in documents)
    return laid(documents, np.arange(total), (-(-total // length), length))


def laid(documents: Sequence[Tokens], places: np.ndarray, shape: tuple[int, int]) -> Blocks:
    """Blocks of a shape (M, L) that hold the tokens of all documents (T,) at these places of M · L, padded elsewhere."""
    ids = np.concatenate([each.ids for each in documents])
    sizes = np.concatenate([each.sizes for each in documents])
    number = np.repeat(np.arange(len(documents)), [len(each.ids) for each in documents])
    follows = followed(documents)
    labels = np.where(follows, np.append(ids[1:], 0), IGNORED)
    label_sizes = np.where(follows, np.append(sizes[1:], 0), 0)

    def blocks(values: np.ndarray, padding: int) -> Tensor:
        whole = np.full(shape[0] * shape[1], padding, np.int64)
        whole[places] = values
        return torch.from_numpy(whole.reshape(shape))

    return Blocks(blocks(ids, 0), blocks(labels, IGNORED), blocks(number, PADDING), blocks(label_sizes, 0))


def followed(documents: Sequence[Tokens]) -> np.ndarray:
    """Whether each token of all documents (T,) has a label: a learned token that follows in the same document."""
    number = np.repeat(np.arange(len(documents)), [len(each.ids) for each in documents])
    learned = np.concatenate([each.learned for each in documents])
    return np.append(number[1:] == number[:-1], False) & np.append(learned[1:], False)


def evenly(count: int, most: int) -> np.ndarray:
    """At most so many of `count` places, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
