"""Which documents are learned from, and which are held out to validate and to test."""

from collections.abc import Mapping, Sequence

import numpy as np

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.splits import TEST_SEED
from distillab.data.text.documents import Document, overlapping

# The folders below data.path that name a split, in any case.
FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
FOLDERS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
SPLITS = ("train", "validation", "test")
OVERLAP_WORDS = 13  # words of a run that stands in two documents


def divided(
    documents: Sequence[Document], name: str, *, test: float, validation: float, split_seed: int
) -> dict[str, list[Document]]:
    """Documents by split: of the folders that name one, else drawn; shares are of the bytes, by document.

    Raises UserError for folders without training text, and for too few documents.
    """
    named = {one.kind for one in documents}
    found: dict[str, list[Document]] = {"train": list(documents), "validation": [], "test": []}
    if named and all(kind.lower() in FOLDERS for kind in named):
        found = {split: [one for one in documents if FOLDERS[one.kind.lower()] == split] for split in SPLITS}
        if not found["train"]:
            raise UserError(
                f"data={name}: the folders {', '.join(sorted(named))} hold no text to train on; add a folder train, or name the folders otherwise"
            )
    for split, share, seed in (("test", test, (TEST_SEED,)), ("validation", validation, (split_seed, 4))):
        if not found[split] and share:
            found["train"], found[split] = _drawn(found["train"], share, np.random.RandomState(seed), name)
    return found


def _drawn(
    documents: list[Document], share: float, drawing: np.random.RandomState, name: str
) -> tuple[list[Document], list[Document]]:
    """What stays, and random documents that hold a share of the bytes, one at least."""
    if len(documents) < 2:
        raise UserError(
            f"data={name} has too few documents to hold some out: train, validation and test need one each; "
            f"give more files or rows, blank lines in a single file, or folders train, validation and test"
        )
    sizes = [len(one.content.encode()) for one in documents]
    drawn: set[int] = set()
    for place in drawing.permutation(len(documents))[:-1].tolist():
        if drawn and sum(sizes[i] for i in drawn) >= share * sum(sizes):
            break
        drawn.add(place)
    stays = [one for place, one in enumerate(documents) if place not in drawn]
    return stays, [documents[place] for place in sorted(drawn)]


def without_overlap(
    documents: Sequence[Document], splits: Mapping[str, list[Document]], name: str, *, share: float
) -> list[Document]:
    """The documents that have no more than a share of their runs of 13 words in held-out text too.

    Raises UserError where none is left.
    """
    leaks = set(overlapping(documents, [*splits["validation"], *splits["test"]], length=OVERLAP_WORDS, share=share))
    if not leaks:
        return list(documents)
    kept = [one for place, one in enumerate(documents) if place not in leaks]
    if not kept:
        raise UserError(f"data={name}: all training text stands in the held-out text too: data.overlap=1")
    rank_zero_print(
        f"data={name}: {len(leaks)} training documents share more than {100 * share:g} % of their runs of "
        f"{OVERLAP_WORDS} words with held-out text and are left out (data.overlap)"
    )
    return kept
