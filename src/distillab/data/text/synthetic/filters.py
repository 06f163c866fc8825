"""Which texts are kept: length, repetition, perplexity, near-duplicates, overlap with held-out text."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.data.text.synthetic.config import Filters
from distillab.data.text.synthetic.prompts import read_texts, texts_hash
from distillab.data.text.synthetic.rows import Row, words

FILTERS = ("length", "repetition", "perplexity", "duplicate", "overlap")


@dataclass(frozen=True)
class Verdict:
    """What the filters found in a row."""

    kept: bool
    rejected_by: tuple[str, ...]  # all filters that reject it, in the order of FILTERS
    repetition: float
    overlap: int  # n-grams that stand in held-out text too
    duplicate_of: int | None  # the row number of an earlier text that is nearly the same


def grams(given: Sequence[str], n: int) -> list[str]:
    """All runs of n words, in order."""
    return [" ".join(given[start : start + n]) for start in range(len(given) - n + 1)]


def repetition(given: Sequence[str], n: int) -> float:
    """The share of a text's n-grams that stand in it earlier already; 0 for a text of fewer words."""
    runs = grams(given, n)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class HeldOut:
    """The n-grams of text that no kept text may share (decontamination as in 2005.14165, with n = 13)."""

    def __init__(self, texts: Sequence[str], n: int) -> None:
        self.n, self.hash = n, texts_hash(list(texts))
        known, short = set(), 0
        for text in texts:
            runs = grams(words(text), n)
            short += not runs
            known.update(map(_digest, runs))
        self._known = known
        if short:
            rank_zero_print(
                f"{short} of {len(texts)} held-out texts have fewer than {n} words and cannot be found; "
                "filters.held_out_n=… compares shorter runs"
            )

    def shared(self, given: Sequence[str]) -> int:
        """How many n-grams of a text stand in the held-out text."""
        return sum(_digest(run) in self._known for run in grams(given, self.n)) if self._known else 0


def _digest(run: str) -> bytes:
    return hashlib.blake2b(run.encode(errors="replace"), digest_size=8).digest()


class Duplicates:
    """The texts that were kept so far, by MinHash of their word n-grams (datasketch)."""

    PERMUTATIONS = 128

    def __init__(self, threshold: float, n: int) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold, self.n = threshold, n
        self._blank = MinHash(num_perm=self.PERMUTATIONS)
        # Candidates are looked at again, so few are to be missed.
        self._known = MinHashLSH(threshold=threshold, num_perm=self.PERMUTATIONS, weights=(0.1, 0.9))
        self._hashes: dict[int, Any] = {}

    def add(self, row: int, given: Sequence[str]) -> int | None:
        """The first earlier row that is as similar as the threshold; where there is none, the text is known from now on."""
        hashed = self._blank.copy()
        runs = grams(given, self.n) or [" ".join(given)]
        hashed.update_batch([run.encode(errors="replace") for run in runs])
        near = [one for one in self._known.query(hashed) if hashed.jaccard(self._hashes[one]) >= self.threshold]
        if near:
            return min(near)
        self._known.insert(row, hashed)
        self._hashes[row] = hashed
        return None


class Judge:
    """Gives the verdict on rows, which it must see in order; raises UserError where perplexities are missing."""

    def __init__(self, filters: Filters, perplexities: Sequence[float | None], held_out: HeldOut | None) -> None:
        self.filters, self.held_out = filters, held_out
        known = [one for one in perplexities if one is not None]
        if filters.perplexity and perplexities and not known:
            raise UserError(
                "no text has a perplexity, since the server told none when it was written; "
                "switch the filter off (filters.max_perplexity=null and the like)"
            )
        self.low, self.high = _bounds(filters, known)
        wanted = filters.duplicate_threshold
        self._duplicates = None if wanted is None else Duplicates(wanted, filters.duplicate_n)

    def verdicts(self, rows: Iterable[Row]) -> Iterator[Verdict]:
        """One for each row, in order. A row that another filter rejects makes no later one a duplicate."""
        for row in rows:
            given = row.words
            repeated = repetition(given, self.filters.repetition_n)
            overlap = self.held_out.shared(given) if self.held_out else 0
            found = {
                "length": not self.filters.min_words <= len(given) <= (self.filters.max_words or len(given)),
                "repetition": self.filters.max_repetition is not None and repeated > self.filters.max_repetition,
                "perplexity": row.perplexity is not None and not self.low <= row.perplexity <= self.high,
                "overlap": overlap > 0,
            }
            first = None
            if self._duplicates and not any(found.values()):
                first = self._duplicates.add(row.row, given)
            found["duplicate"] = first is not None
            against = tuple(name for name in FILTERS if found[name])
            yield Verdict(not against, against, repeated, overlap, first)


def _bounds(filters: Filters, known: Sequence[float]) -> tuple[float, float]:
    """The perplexities that are kept: within the bounds, and within the quantiles of all texts."""
    low, high = [filters.min_perplexity], [filters.max_perplexity]
    if known:
        for bound, share in ((low, filters.min_perplexity_quantile), (high, filters.max_perplexity_quantile)):
            bound.append(None if share is None else float(np.quantile(known, share)))
    return max((b for b in low if b is not None), default=0.0), min((b for b in high if b is not None), default=np.inf)


def held_out_of(filters: Filters) -> HeldOut | None:
    """The held-out text that the config names. Raises UserError where it cannot be read."""
    if filters.held_out is None:
        return None
    texts = read_texts(Path(filters.held_out), "filters.held_out", "text", lines=False)
    return HeldOut(texts, filters.held_out_n)
