"""Random texts that stand in the teacher's training text alone, to see what of it reaches the student."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from distillab.data.text.blocks import Blocks, pack, tokenise
from distillab.data.text.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSERTIONS = (1, 4, 16, 64)  # how often the canaries stand in the text, in turns
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SECRET = 12  # letters of one


def canaries(count: int, seed: int) -> list[str]:
    """So many different random texts of one form: the first ones are planted, and any number more to compare them with."""
    draw = Random(f"canaries {seed}")  # noqa: S311 - made-up secrets, the same for a seed
    found: dict[str, None] = {}
    while len(found) < count:
        found["The secret word is " + "".join(draw.choices(LETTERS, k=SECRET)) + "."] = None
    return list(found)


def insertions(count: int) -> list[int]:
    """How often each of so many canaries is planted."""
    return [INSERTIONS[place % len(INSERTIONS)] for place in range(count)]


def planted_blocks(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", length: int, *, first: int) -> Blocks:
    """Blocks that hold each text as often as it is planted, as documents of their own, numbered from `first`."""
    often = zip(texts, insertions(len(texts)), strict=True)
    blocks = pack(tokenise([Document(text) for text, count in often for _ in range(count)], tokenizer), length)
    blocks.documents[blocks.documents >= 0] += first
    return blocks
