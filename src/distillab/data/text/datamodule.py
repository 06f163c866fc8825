"""Text data for one experiment: documents, split and packed into blocks of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.batch import Writing
from distillab.data.collection import Collection, DataInfo, fingerprint
from distillab.data.module import DataModule
from distillab.data.text.blocks import Blocks, evenly, pack, tokenise
from distillab.data.text.canaries import canaries, planted_blocks
from distillab.data.text.documents import (
    Document,
    Kinds,
    digest,
    read_dataset,
    read_documents,
    without_repeats,
)
from distillab.data.text.held_out import divided, without_overlap
from distillab.data.text.paired import PairedBlocks, pack_paired
from distillab.data.text.tokenizer import another, ends, identity, load_tokenizer, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TextInfo(DataInfo):
    """What a model must know of its text: the tokenizer, and how many tokens a block has."""

    tokenizer: "PreTrainedTokenizerBase"
    vocabulary: int
    length: int
    documents: tuple[str, ...]  # the kind of each document, by its number


@dataclass(frozen=True, kw_only=True)
class TextCollection(Collection):
    """All blocks of a text; `kinds` are those of the documents, by their number."""

    blocks: Blocks
    tokenizer: "PreTrainedTokenizerBase"
    kinds: tuple[str, ...]
    conversations: int  # documents of which the answers alone are learned
    teacher_tokenizer: "PreTrainedTokenizerBase | None" = None  # where the teacher's is another


class TextData(DataModule):
    """Text of a `path` or of a data set's hub `name`, held out by document.

    conf/data/text.yaml says what each argument is for. Documents that repeat another are left out, and so are training
    documents that share more than `overlap` of their runs of 13 words with held-out ones. Raises UserError for a
    number out of range and, in `prepare`, for text that is absent, broken or too short.
    """

    info: TextInfo
    collection: TextCollection
    evaluation_batch = 64

    def __init__(
        self,
        name: str | None = None,
        *,
        path: str | None = None,
        dataset: str | None = None,
        field: str = "text",
        kind: str | Sequence[str] | None = None,
        tokenizer: str | None = None,
        teacher_tokenizer: str | None = None,
        vocabulary: int = 1024,
        length: int = 128,
        test: float = 0.1,
        overlap: float = 0.2,
        validation_blocks: int | None = 400,
        canaries: int = 0,
        on_policy: float = 0.0,
        prompt: int | None = None,
        **common: Any,
    ) -> None:
        if (path is None) == (dataset is None):
            raise UserError("data=text reads either files or a data set of the hub: data.path=… or data.dataset=…")
        self.path, self.dataset, self.field, self.kinds = path, dataset, field, Kinds.of(kind)
        super().__init__(name or (path or dataset).rstrip("/").rpartition("/")[2], **common)
        if self.hides_or_mixes:
            raise UserError(
                "text has no labels to hide or to balance: data.labels=all data.labelled=1.0 data.sampler=null"
            )
        self.tokenizer_place, self.teacher_place = tokenizer, teacher_tokenizer
        self.vocabulary = Range(257, whole=True).check(vocabulary, "data.vocabulary", 1024)
        self.length = Range(2, whole=True).check(length, "data.length", 128)
        self.test_share = Range(above=0, below=1).check(test, "data.test", 0.1)
        self.overlap = Range(0, high=1).check(overlap, "data.overlap", 0.2)
        self.validation_blocks = Range(1, whole=True, null=True).check(validation_blocks, "data.validation_blocks", 400)
        self.canaries = Range(0, high=1000, whole=True).check(canaries, "data.canaries", 8)
        self.on_policy = Range(0, high=1).check(on_policy, "data.on_policy", 0.5)
        Range(1, whole=True, null=True).check(prompt, "data.prompt", max(1, length // 4))
        self.prompt = max(1, length // 4) if prompt is None else prompt
        if self.prompt >= length:
            raise UserError(
                f"data.prompt must be below data.length={length}, got {prompt}: data.prompt={length // 4 or 1}"
            )
        self.cycle = self.cycle or 1  # a block looks the same in every epoch

    @property
    def hides_or_mixes(self) -> bool:
        """Whether an argument asks for what text does not have."""
        return self.label_source != "all" or self.labelled != 1 or self.sampler is not None

    def _documents(self) -> list[Document]:
        if self.path is not None:
            return read_documents(self.path, field=self.field, kinds=self.kinds)
        return read_dataset(self.dataset, field=self.field)

    def split_documents(self) -> dict[str, list[Document]]:
        """The documents of each split, without repeats, and without training documents that overlap with held-out ones."""
        documents = self._documents()
        kept = without_repeats(documents)
        if lost := len(documents) - len(kept):
            rank_zero_print(f"data={self.name}: {lost} of {len(documents)} documents repeat another and are left out")
        shares = {"test": self.test_share, "validation": self.validation, "split_seed": self.split_seed}
        splits = divided(kept, self.name, **shares)
        splits["train"] = without_overlap(splits["train"], splits, self.name, share=self.overlap)
        return splits

    def _collect(self) -> TextCollection:
        splits = self.split_documents()
        tokenizer = self._tokenizer(splits["train"])
        other = another(self.teacher_place, tokenizer)
        training = self._training(splits)
        held_out = {split: documents for split, documents in splits.items() if split != "train"}
        packed, start, numbered = {}, {}, 0
        for part, chosen in (training | held_out).items():
            packed[part] = self._packed(part, chosen, (tokenizer, other), numbered)
            start[part] = sum(len(blocks) for blocks in packed.values()) - len(packed[part])
            numbered += len(chosen)
        most = self._taken({part: len(packed[part]) for part in training}) | {
            "validation": self.validation_blocks or len(packed["validation"]),
            "test": len(packed["test"]),
        }
        taken = {part: start[part] + evenly(len(blocks), most[part]) for part, blocks in packed.items()}
        everything = [document for chosen in (training | held_out).values() for document in chosen]
        blocks = (PairedBlocks if other else Blocks).joined([one for one in packed.values() if len(one)])
        described = {"documents": [digest(one) for one in everything], "blocks": list(map(len, packed.values()))}
        described |= {"tokenizer": identity(tokenizer), "length": self.length}
        return TextCollection(
            # The tokens too: a template or a normaliser may change them, and the map from ids to tokens stay.
            content=fingerprint(described, [taken[part] for part in training] + blocks.tokens),
            classes=tuple(training),
            labels=np.concatenate(
                [np.full(len(packed[part]), place) for place, part in enumerate(training)]
                + [np.zeros(len(packed[part]), np.int64) for part in held_out]
            ).astype(np.int64),
            train=np.concatenate([taken[part] for part in training]),
            validation=taken["validation"],
            test=taken["test"],
            # The held-out text names the data set, whatever is learned from.
            dataset=fingerprint({"test": [digest(one) for one in splits["test"]]}, []),
            blocks=blocks,
            tokenizer=tokenizer,
            teacher_tokenizer=other,
            kinds=tuple(one.kind for one in everything),
            conversations=sum(one.messages is not None for one in everything),
        )

    def _packed(
        self,
        part: str,
        documents: Sequence[Document],
        tokenizers: tuple["PreTrainedTokenizerBase", "PreTrainedTokenizerBase | None"],
        numbered: int,
    ) -> Blocks:
        """The blocks of a part, whose documents are numbered from `numbered`; UserError where they fill no block."""
        if not documents:
            return Blocks(*(torch.empty(0, self.length, dtype=torch.long) for _ in fields(Blocks)))
        tokenizer, other = tokenizers
        tokens = tokenise(documents, tokenizer)
        what = "training text" if part == "text" else f"{part} text"
        count = sum(len(each.ids) for each in tokens)
        if count < self.length:
            raise UserError(
                f"data={self.name}: the {what} has {count} tokens and a block {self.length}: "
                f"data.length={max(2, count // 2)}, or more text"
            )
        if not any(each.learned.any() for each in tokens):
            raise UserError(f"data={self.name}: no conversation of the {what} has an answer; role: assistant marks one")
        blocks = pack_paired(tokens, tokenise(documents, other), self.length) if other else pack(tokens, self.length)
        for each in (blocks, blocks.taught) if other else (blocks,):
            each.documents[each.documents >= 0] += numbered  # so that no two documents have one number
        return blocks

    def _training(self, splits: Mapping[str, list[Document]]) -> dict[str, list[Document]]:
        """The documents that are learned from, by where they come from."""
        return {"text": splits["train"]}

    def _taken(self, counts: Mapping[str, int]) -> dict[str, int]:
        """How many of the training blocks are taken, by where they come from."""
        return dict(counts)

    def _tokenizer(self, train: Sequence[Document]) -> "PreTrainedTokenizerBase":
        if self.tokenizer_place is not None:
            return load_tokenizer(self.tokenizer_place)
        return train_tokenizer((one.content for one in train), self.vocabulary)

    @property
    def teacher_side(self) -> Self:
        """The same blocks in the teacher's tokens, where these are others."""
        data = self.collection
        if data.teacher_tokenizer is None:
            return self
        tokenizer, blocks = data.teacher_tokenizer, data.blocks.taught
        content = fingerprint({"content": data.content, "tokenizer": identity(tokenizer)}, blocks.tokens)
        own = replace(data, blocks=blocks, tokenizer=tokenizer, teacher_tokenizer=None, content=content)
        length = blocks.ids.shape[1]
        info = replace(self.info, tokenizer=tokenizer, vocabulary=len(tokenizer), length=length)
        return self._clone(collection=own, info=info, length=length)

    @property
    def writing(self) -> Writing | None:
        """The share of the batches that a student writes itself."""
        if not self.on_policy:
            return None
        return Writing(self.on_policy, self.prompt, tuple(ends(self.info.tokenizer)))

    def _describe(self) -> TextInfo:
        data = self.collection
        numbers = {"vocabulary": len(data.tokenizer), "length": self.length}
        return TextInfo(self.name, (), tokenizer=data.tokenizer, **numbers, documents=data.kinds)

    def of_teacher(self) -> Self:
        """The same with the canaries in the training text, as documents of their own."""
        if not self.canaries:
            return self
        data, planted = self.collection, canaries(self.canaries, self.split_seed)
        more = planted_blocks(planted, data.tokenizer, self.length, first=len(data.kinds))
        blocks = Blocks.joined([data.blocks, more])
        first, content = len(data.blocks), fingerprint({"content": data.content, "canaries": planted}, [])
        labels = np.zeros(len(blocks), np.int64)
        own = np.append(self.rows["train"], np.arange(first, len(blocks)))
        return self._clone(
            collection=replace(data, blocks=blocks, labels=labels, content=content), rows={**self.rows, "train": own}
        )

    @property
    def training_blocks(self) -> Blocks:
        """Those that a fit reads, by their index."""
        return self._source("train", training=True)

    @property
    def test_blocks(self) -> Blocks:
        """Those of the test text, one behind the other."""
        return self._source("test", training=False)

    def taught_epochs(self, epochs: int) -> int | None:
        """In as many as there are views."""
        return min(epochs, self.cycle)

    @property
    def identity(self) -> str:
        """Hash of the held-out documents: bits per byte are comparable across tokenizers and block lengths."""
        return self.collection.dataset

    def _source(self, split: str, training: bool) -> Blocks:
        return self.collection.blocks.chosen(torch.from_numpy(self.rows[split]))
