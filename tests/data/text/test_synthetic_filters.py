"""Which texts the filters keep: against counts made by hand and exact sets."""

import itertools

import numpy as np
import pytest

from distillab.core.errors import UserError
from distillab.data.text.synthetic.config import Filters
from distillab.data.text.synthetic.filters import FILTERS, HeldOut, Judge, held_out_of, repetition
from distillab.data.text.synthetic.rows import Row, words

OFF = {"min_words": 0, "max_repetition": None, "duplicate_threshold": None}


def rows(texts, perplexities=None):
    given = perplexities or [1.0] * len(texts)
    return [Row(place, "", text, "stop", 1, 1, given[place]) for place, text in enumerate(texts)]


def judged(texts, perplexities=None, held_out=None, **filters):
    made = rows(texts, perplexities)
    judge = Judge(Filters(**(OFF | filters)), [row.perplexity for row in made], held_out)
    return list(judge.verdicts(made))


def rejected(*args, **how):
    return [verdict.rejected_by for verdict in judged(*args, **how)]


def numbered(start, count):
    return " ".join(f"n{number}" for number in range(start, start + count))


def test_words_are_lower_case_without_punctuation():
    assert words("Don't STOP—now, naïve 3.5!") == ["don", "t", "stop", "now", "naïve", "3", "5"]


def test_length_has_bounds_that_are_allowed_themselves():
    texts = ["", "a", "a b", "a b c", "a b c d"]
    assert rejected(texts, min_words=2, max_words=3) == [("length",), ("length",), (), (), ("length",)]
    assert rejected(texts) == [()] * 5


@pytest.mark.parametrize(
    "text, n, share",
    [("a b a b a b", 2, 3 / 5), ("a a a a", 1, 3 / 4), ("a b c d", 2, 0), ("a b", 4, 0), ("", 4, 0)],
)
def test_repetition_is_the_share_of_ngrams_that_stand_earlier(text, n, share):
    assert repetition(text.split(), n) == pytest.approx(share)


def test_a_text_at_the_bound_of_repetition_is_kept():
    how = {"repetition_n": 2, "max_repetition": 0.6}
    assert rejected(["a b a b a b", "a b a b a b a b"], **how) == [(), ("repetition",)]


def test_perplexity_has_bounds_and_quantiles_of_all_texts():
    texts, found = ["x"] * 11, [float(one) for one in range(10, 21)]
    assert rejected(texts, found, min_perplexity=12, max_perplexity=18).count(()) == 7
    cut = rejected(texts, found, min_perplexity_quantile=0.1, max_perplexity_quantile=0.9)
    kept = [one for one, against in zip(found, cut, strict=True) if not against]
    assert (
        kept == [one for one in found if np.quantile(found, 0.1) <= one <= np.quantile(found, 0.9)] and len(kept) == 9
    )
    both = rejected(texts, found, max_perplexity=15, max_perplexity_quantile=0.9)
    assert both.count(()) == 6


def test_without_perplexities_a_filter_of_them_is_refused():
    with pytest.raises(UserError, match="no text has a perplexity"):
        judged(["x"], [None], max_perplexity=5)
    assert rejected(["x", "y"], [None, 9.0], max_perplexity=5) == [(), ("perplexity",)]


def test_near_duplicates_are_those_of_the_exact_jaccard_similarity():
    """Pairs far from the threshold, where an estimate of 128 permutations decides as the exact value does."""
    base = numbered(0, 200).split()
    texts, exact = [" ".join(base)], []
    for changed in (1, 2, 8, 20, 60):  # words, far apart: each changes five 5-grams
        new = list(base)
        for place in np.linspace(5, 190, changed).astype(int):
            new[place] = f"other{changed}"
        texts.append(" ".join(new))
    grams = [{tuple(text.split()[i : i + 5]) for i in range(196)} for text in texts]
    for one in grams[1:]:
        exact.append(len(one & grams[0]) / len(one | grams[0]))
    assert exact[1] > 0.9 and exact[2] < 0.75
    found = judged(texts, duplicate_threshold=0.82)
    assert [verdict.duplicate_of for verdict in found] == [None, 0, 0, None, None, None]
    assert [verdict.rejected_by for verdict in found][1:4] == [("duplicate",), ("duplicate",), ()]


def test_near_duplicates_are_seldom_missed_and_seldom_imagined():
    """Of 150 pairs each at similarities .9 and .6, at a threshold of .75."""
    found = {}
    for number, (changed, wanted) in enumerate([(2, 0.9), (10, 0.6)]):
        texts = []
        for pair in range(150):
            base = numbered(1000 * pair + 10**6 * number, 200).split()
            new = list(base)
            for place in np.linspace(5, 190, changed).astype(int):
                new[place] = f"{pair}x{place}"
            texts += [" ".join(base), " ".join(new)]
        assert abs((196 - 5 * changed) / (196 + 5 * changed) - wanted) < 0.01
        found[wanted] = sum(v.duplicate_of is not None for v in judged(texts, duplicate_threshold=0.75))
    assert found[0.9] >= 148 and found[0.6] <= 2


def test_a_duplicate_names_the_first_of_the_texts_that_it_resembles():
    base = numbered(0, 200).split()
    far, between = list(base), list(base)
    for turn, place in enumerate(np.linspace(5, 190, 8).astype(int)):
        far[place] = f"x{place}"
        if turn % 2:
            between[place] = f"x{place}"
    found = judged([" ".join(one) for one in (base, far, between)], duplicate_threshold=0.74)
    assert [verdict.duplicate_of for verdict in found] == [None, None, 0]


def test_a_text_that_another_filter_rejects_makes_no_duplicate():
    text = numbered(0, 30)
    found = judged([text, text, text], [99.0, 1.0, 1.0], max_perplexity=5, duplicate_threshold=0.8)
    assert [verdict.rejected_by for verdict in found] == [("perplexity",), (), ("duplicate",)]
    assert found[2].duplicate_of == 1


def test_duplicates_of_short_texts_are_found_as_whole_texts():
    assert rejected(["a b", "A, b!", "a c"], duplicate_threshold=0.8) == [(), ("duplicate",), ()]


def test_overlap_counts_the_ngrams_of_held_out_text():
    held_out = HeldOut([numbered(0, 40), "short one"], 13)
    texts = [
        f"x {numbered(5, 13)} y",
        f"x {numbered(5, 12)} y",
        f"x {numbered(5, 15).upper().replace(' ', ', ')} y",
        numbered(100, 60),
        "short one",
    ]
    found = judged(texts, held_out=held_out)
    assert [verdict.overlap for verdict in found] == [1, 0, 3, 0, 0]
    assert [verdict.kept for verdict in found] == [False, True, False, True, True]
    assert found[0].rejected_by == ("overlap",)


def test_short_held_out_texts_are_told(capsys):
    HeldOut(["a b c", numbered(0, 13)], 13)
    assert "1 of 2 held-out texts have fewer than 13 words" in capsys.readouterr().out


def test_held_out_text_is_read_from_a_file(tmp_path):
    (tmp_path / "test.txt").write_text(f"{numbered(0, 8)}\n{numbered(8, 8)}\n\nanother text")
    held_out = held_out_of(Filters(held_out=str(tmp_path / "test.txt")))
    assert held_out.shared(numbered(2, 13).split()) == 1  # across a line's end, as the text is one
    assert held_out_of(Filters()) is None


def test_every_filter_can_reject_a_row_by_itself():
    long = numbered(0, 20)
    cases = {
        "length": (["x"], {"min_words": 2}),
        "repetition": (["a a a a a a"], {"max_repetition": 0.1}),
        "perplexity": (["x"], {"max_perplexity": 0.5}),
        "duplicate": ([long, long], {"duplicate_threshold": 0.8}),
        "overlap": ([long], {"held_out": HeldOut([long], 13)}),
    }
    assert tuple(cases) == FILTERS
    for name, (texts, how) in cases.items():
        held_out = how.pop("held_out", None)
        assert rejected(texts, held_out=held_out, **how)[-1] == (name,)


def test_all_that_reject_a_row_are_named():
    for chosen in itertools.combinations(("length", "repetition"), 2):
        assert rejected(["a a a a a a"], min_words=9, max_repetition=0.1) == [chosen]
