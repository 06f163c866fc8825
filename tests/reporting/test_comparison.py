"""Methods over seeds: what counts as a repeat, which numbers are paired, and what is said of them."""

import numpy as np
import pytest
from helpers.made_results import edited, made
from helpers.made_seeds import BASELINE, HINT, KD, config, over_seeds
from scipy import stats

from distillab.reporting.comparison import compare


def one_row(results):
    (row,) = compare(results)
    return row


def test_a_gain_over_seeds_is_the_paired_t_test():
    row = one_row(over_seeds("hint", HINT))
    student = [alone + gain for alone, gain in zip(BASELINE, HINT, strict=True)]
    known = stats.ttest_rel(student, BASELINE)
    interval = known.confidence_interval(0.95)
    assert (row.data, row.protocol, row.teacher, row.student, row.epochs) == (
        "digits", "standard", "resnet34", "resnet8", 8,
    )  # fmt: skip
    assert row.seeds == (0, 1, 2, 3, 4) and row.gain.each == pytest.approx(HINT)
    assert (row.gain.mean, row.gain.p, row.gain.p_holm) == pytest.approx((0.012, known.pvalue, known.pvalue))
    assert (row.gain.low, row.gain.high) == pytest.approx((interval.low, interval.high))
    assert (row.mean, row.deviation) == pytest.approx((np.mean(student), np.std(student, ddof=1)))
    assert row.low < row.mean < row.high
    assert row.words == f"+1.2 points (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}), shown"


def test_what_is_said_when_nothing_is_shown():
    row = one_row(over_seeds("kd", KD))
    assert row.words == f"no difference shown; 5 seeds could have shown {100 * row.gain.smallest:.1f} points"
    assert 0.003 < row.gain.smallest < 0.01
    loss = one_row(over_seeds("kd", [-gain for gain in HINT]))
    assert loss.words.startswith("−1.2 points (95 % interval −") and loss.words.endswith("), a loss, shown")
    equal = one_row(over_seeds("kd", [0.02] * 3))
    assert equal.gain.p is None and equal.words.startswith("+2.0 points with each of 3 seeds")
    assert one_row(over_seeds("kd", [0.0] * 3)).words.startswith("no difference shown: none with each of 3 seeds")


def test_one_seed_says_nothing_of_the_method():
    assert "one seed, which says nothing of the methods" in one_row([made("kd")]).words
    said = "no difference shown between these two trained models"
    row = one_row([made("kd", paired={"words": said})])
    assert (row.words, row.gain.p, row.gain.low, row.gain.smallest) == (said, None, None, None)
    assert row.gain.mean == pytest.approx(0.02)


def test_without_a_baseline_the_gain_is_unknown():
    results = over_seeds("kd", KD)
    row = one_row([results[0], *(result.changed(baseline=None) for result in results[1:])])
    assert len(row.seeds) == 5 and row.gain.each == pytest.approx(KD[:1]) and "one seed" in row.words
    alone = one_row([made("kd", baseline=None)])
    assert alone.gain is None and "baseline=true" in alone.words
    none = one_row(over_seeds("none", [0.0] * 3, settings={"strategy": {"ce": {}}}))
    assert (none.words, none.gain, none.alone) == ("the student alone", None, True)


def test_only_repeats_over_seeds_are_grouped():
    overrides = ["strategy=kd", "seed=1", "strategy.kd.temperature=2"]
    results = [
        *over_seeds("kd", KD),
        *over_seeds("kd", KD, settings={"strategy": {"kd": {"temperature": 2}}}, overrides=overrides),
        *over_seeds("kd", KD, scheme="ema"),
        *over_seeds("kd", KD, protocol="paper"),
        *over_seeds("kd", KD, student=("resnet20", 272_474)),
        *over_seeds("kd", KD, data={"name": "digits", "train": 100}),
        *over_seeds("kd", KD, settings={"recipe": {"epochs": 16}}),
        *over_seeds("kd", KD, settings={"data": {"labelled": 0.1}}),
        *over_seeds("kd", KD, settings={"teacher": {"corrupt_classes": [3]}}),
        # A run with no baseline of its own is a repeat all the same, and so is one by another name.
        made("kd", 0.9, None, seeds={"seed": 9}, config=config(9, baseline=False, name="again", equal_compute=True)),
    ]  # fmt: skip
    rows = compare(results)
    assert sorted(len(row.seeds) for row in rows) == [5, 5, 5, 5, 5, 5, 5, 5, 6]
    assert len({row.family for row in rows}) == 7
    assert {row.label for row in rows} == {"kd", "kd strategy.kd.temperature=2", "kd (ema)"}
    assert {row.protocol for row in rows if row.ranking == rows[0].ranking} == {rows[0].protocol}


def test_rows_say_what_sets_them_apart():
    two = [
        edited(made("kd", config=config(0, teacher={"name": name})), teacher={"name": name})
        for name in ("resnet20", "resnet56")
    ]
    assert [tuple(row.apart.values()) for row in compare(two)] == [("taught by resnet20",), ("taught by resnet56",)]
    other = made(
        "kd", config=config(0, recipe={"epochs": 16}, data={"labelled": 0.1}), data={"name": "digits", "train": 90}
    )
    rows = compare([*over_seeds("kd", KD, data={"name": "digits", "train": 100}), other])
    assert [tuple(row.apart.values()) for row in rows] == [
        ("16 epochs", "90 training images", "data.labelled=0.1"), ("8 epochs", "100 training images", "all labels"),
    ]  # fmt: skip
    counted = [over_seeds("kd", KD, settings={"recipe": {"epochs": None, "steps": n}}) for n in (900, 1200)]
    rows = compare([*over_seeds("kd", KD), *counted[0], *counted[1]])
    assert [row.apart["steps"] for row in rows if row.steps] == ["900 steps", "1,200 steps"]
    assert len({row.ranking for row in rows}) == 3
    rows = compare([*over_seeds("kd", KD), *over_seeds("kd", KD, protocol="paper")])
    assert [row.apart for row in rows] == [{}, {}] and len({row.place for row in rows}) == 2


def test_a_student_alone_is_one_whatever_teacher_stands_beside_it():
    alone = [made("none", 0.9, None, seeds={"seed": n}, config=config(n, teacher={"name": str(n)})) for n in range(3)]
    assert one_row(alone).seeds == (0, 1, 2)


def test_the_gain_at_equal_compute_is_tested_beside_the_other():
    results = over_seeds("hint", HINT)
    costs = [{"equal_compute": {"gain_live": gain}} for gain in KD]
    results = [result.changed(cost=cost) for result, cost in zip(results, costs, strict=True)]
    row = one_row(results)
    known = stats.ttest_1samp(KD, 0)
    assert (row.equal_compute.mean, row.equal_compute.p_holm) == pytest.approx((np.mean(KD), known.pvalue))
    assert row.words.endswith("), shown; at equal compute +0.0 points, no difference shown")
    family = compare([*results, *(result.changed(strategy=name) for name in ("a", "b") for result in results)])
    assert all(row.equal_compute.p_holm == pytest.approx(min(1, 3 * known.pvalue)) for row in family)
    assert one_row(results[:1]).words.endswith("; at equal compute +0.4 points")


def test_a_result_that_says_more_is_kept_over_a_newer_one():
    full = made("kd", 0.95, created="2030-01-01T00:00:00", longer={"epochs": 9})
    without_longer = made("kd", 0.95, created="2031-01-01T00:00:00")
    bare = made("kd", 0.95, None, created="2032-01-01T00:00:00")
    for results in ([full, without_longer, bare], [bare, full, without_longer]):
        assert one_row(results).results == (full,)
    assert one_row([bare, without_longer]).gain.each == pytest.approx((0.02,))


def test_tests_over_samples_are_corrected_over_the_methods_of_one_seed():
    def one(name, p):
        return made(name, paired={"p": p, "low": 0.001, "high": 0.04, "words": f"{name} shown"})

    said = {row.method: row.words for row in compare([one("a", 0.001), one("b", 0.04), one("c", 0.5)])}
    assert said["a"] == "a shown; p = 0.003 by Holm's correction over 3 tests"
    assert said["b"].startswith("no difference shown among 3 tests (p = 0.04 alone, 0.08 by Holm's correction)")
    assert said["c"] == "c shown" and one_row([one("b", 0.04)]).words == "b shown"


def test_of_two_results_of_one_seed_the_newest_counts():
    older, newer = (made("kd", top1, created=f"{year}-01-01T00:00:00") for top1, year in ((0.94, 2030), (0.95, 2031)))
    for results in ([older, newer], [newer, older], [newer, older, newer]):
        row = one_row(results)
        assert row.scores == (0.95,) and row.results == (newer,)


def test_holm_is_over_the_methods_of_one_family():
    weak = (0.010, 0.001, 0.012, 0.002, 0.008)
    alone = one_row(over_seeds("weak", weak))
    assert 0.0125 < alone.gain.p < 0.05 and ", shown" in alone.words
    others = [result for name in ("a", "b", "c") for result in over_seeds(name, KD)]
    elsewhere = over_seeds("weak", weak, protocol="paper")
    rows = {(row.method, row.protocol): row for row in compare([*over_seeds("weak", weak), *others, *elsewhere])}
    row = rows["weak", "standard"]
    assert row.gain.p_holm == pytest.approx(4 * alone.gain.p) and row.gain.p == pytest.approx(alone.gain.p)
    assert row.words.startswith("no difference shown among 4 methods (p = ")
    assert row.gain.smallest > alone.gain.smallest, "four tests need a larger gain than one"
    assert rows["weak", "paper"].words == alone.words, "another protocol is another family"


def test_old_results_that_lack_what_may_be_lacking_are_shown():
    bare = made("kd", seeds={}, data={"name": "digits"}, config={}, teacher=None, baseline=None)
    changed = bare.changed(overrides=["strategy=kd", "recipe.lr=0.1"])
    rows = compare([bare, changed])
    assert [(row.label, row.seeds, row.train, row.epochs) for row in rows] == [
        ("kd", (None,), None, None), ("kd recipe.lr=0.1", (None,), None, None),
    ]  # fmt: skip
    assert compare([]) == []


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_synthetic_sweep_without_a_gain_is_called_no_difference(seeds):
    """Accuracies counted on 10,000 test samples: 93.5 to 96.5 % of 2,000 sweeps; with a large gain hardly any."""
    drawn, repeats = np.random.default_rng(10 + seeds), 2000
    baseline = drawn.normal(0.90, 0.01, (repeats, seeds)).round(4)
    noise = drawn.normal(0, 0.006, (repeats, seeds))

    def share_shown(gain, count):
        words = [one_row(over_seeds("kd", (noise[i] + gain).round(4), baseline[i])).words for i in range(count)]
        return np.mean([not text.startswith("no difference shown") for text in words])

    assert 0.035 <= share_shown(0.0, repeats) <= 0.065
    assert share_shown(0.06, 300) > 0.97
