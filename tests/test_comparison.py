"""Methods over seeds: what counts as a repeat, which numbers are paired, and what is said of them."""

import numpy as np
import pytest
from made_results import made
from scipy import stats

from distillab.tracking.comparison import against_each_other, compare

BASELINE = (0.900, 0.912, 0.905, 0.908, 0.896)
HINT = (0.010, 0.014, 0.012, 0.009, 0.015)
KD = (0.004, -0.002, 0.003, -0.004, 0.001)


def config(seed, **changes):
    return {"seed": seed, "recipe": {"epochs": 8, "lr": 0.1}, "name": "digits", **changes}


def over_seeds(strategy, gains, baseline=BASELINE, **changes):
    settings = changes.pop("settings", {})
    return [
        made(strategy, alone + gain, alone, seeds={"seed": seed}, config=config(seed, **settings), **changes)
        for seed, (gain, alone) in enumerate(zip(gains, baseline, strict=False))
    ]


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
    assert row.seeds == (0, 1, 2, 3, 4) and row.gains == pytest.approx(HINT)
    assert (row.gain_mean, row.p, row.p_holm) == pytest.approx((0.012, known.pvalue, known.pvalue))
    assert (row.gain_low, row.gain_high) == pytest.approx((interval.low, interval.high))
    assert (row.mean, row.deviation) == pytest.approx((np.mean(student), np.std(student, ddof=1)))
    assert row.low < row.mean < row.high
    assert row.words == f"+1.2 points (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}), shown"


def test_what_is_said_when_nothing_is_shown():
    row = one_row(over_seeds("kd", KD))
    assert row.words == f"no difference shown; 5 seeds could have shown {100 * row.smallest_gain:.1f} points"
    assert 0.003 < row.smallest_gain < 0.01
    loss = one_row(over_seeds("kd", [-gain for gain in HINT]))
    assert loss.words.startswith("−1.2 points (95 % interval −") and loss.words.endswith("), a loss, shown")
    equal = one_row(over_seeds("kd", [0.02] * 3))
    assert equal.p is None and equal.words.startswith("+2.0 points with each of 3 seeds")
    assert one_row(over_seeds("kd", [0.0] * 3)).words.startswith("no difference shown: none with each of 3 seeds")


def test_one_seed_says_nothing_of_the_method():
    assert "one seed, which says nothing of the methods" in one_row([made("kd")]).words
    said = "no difference shown between these two trained models"
    row = one_row([made("kd", paired={"words": said})])
    assert (row.words, row.p, row.gain_low, row.smallest_gain) == (said, None, None, None)
    assert row.gain_mean == pytest.approx(0.02)


def test_without_a_baseline_the_gain_is_unknown():
    results = over_seeds("kd", KD)
    for result in results[1:]:
        result["baseline"] = None
    row = one_row(results)
    assert len(row.seeds) == 5 and row.gains == pytest.approx(KD[:1]) and "one seed" in row.words
    alone = one_row([made("kd", baseline=None)])
    assert alone.gains == () and alone.gain_mean is None and "baseline=true" in alone.words
    none = one_row(over_seeds("none", [0.0] * 3, settings={"strategy": {"ce": {}}}))
    assert (none.words, none.gains, none.p, none.alone) == ("the student alone", (), None, True)


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


def test_of_two_results_of_one_seed_the_newest_counts():
    older, newer = (made("kd", top1, created=f"{year}-01-01T00:00:00") for top1, year in ((0.94, 2030), (0.95, 2031)))
    for results in ([older, newer], [newer, older], [newer, older, newer]):
        row = one_row(results)
        assert row.top1 == (0.95,) and row.results == (newer,)


def test_holm_is_over_the_methods_of_one_family():
    weak = (0.010, 0.001, 0.012, 0.002, 0.008)
    alone = one_row(over_seeds("weak", weak))
    assert 0.0125 < alone.p < 0.05 and ", shown" in alone.words
    others = [result for name in ("a", "b", "c") for result in over_seeds(name, KD)]
    elsewhere = over_seeds("weak", weak, protocol="paper")
    rows = {(row.method, row.protocol): row for row in compare([*over_seeds("weak", weak), *others, *elsewhere])}
    row = rows["weak", "standard"]
    assert row.p_holm == pytest.approx(4 * alone.p) and row.p == pytest.approx(alone.p)
    assert row.words.startswith("no difference shown among 4 methods (p = ")
    assert row.smallest_gain > alone.smallest_gain, "four tests need a larger gain than one"
    assert rows["weak", "paper"].words == alone.words, "another protocol is another family"


def test_methods_against_each_other_on_the_seeds_that_both_have():
    rows = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD[:4]), *over_seeds("none", [0] * 5)])
    (pair,) = against_each_other(sorted(rows, key=lambda row: -row.mean))
    known = stats.ttest_rel(HINT[:4], KD[:4])
    assert (pair.first.method, pair.second.method, pair.seeds) == ("hint", "kd", (0, 1, 2, 3))
    assert (pair.difference, pair.p) == pytest.approx((np.mean(HINT[:4]) - np.mean(KD[:4]), known.pvalue))
    assert pair.words.endswith("), shown") and pair.p_holm == pair.p
    three = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD), *over_seeds("dkd", KD[::-1])])
    pairs = against_each_other(three)
    assert [round(pair.p_holm / pair.p, 6) for pair in pairs[:2]].count(3) == 1, "the smallest p, of three"
    assert "no difference shown" in pairs[-1].words
    other = made("kd", seeds={"seed": 77}, config=config(77))
    assert against_each_other(compare([*over_seeds("hint", HINT), other])) == [], "no seed in common"
    assert against_each_other(compare([*over_seeds("hint", HINT), *over_seeds("kd", KD, protocol="paper")])) == []


def test_a_tuned_student_alone_is_compared_with_the_methods():
    tuned = over_seeds("none", [0.03] * 5, teacher=None, settings={"recipe": {"epochs": 8, "lr": 0.2}})
    hint = over_seeds("hint", HINT)
    for seed, (alone, taught) in enumerate(zip(tuned, hint, strict=True)):
        alone["student"]["checkpoints"] = f"tuned {seed}"
        taught["baseline"]["checkpoints"] = f"as it was {seed}"
    (pair,) = against_each_other(compare([*hint, *tuned]))
    assert (pair.first.method, pair.second.method) == ("none", "hint")
    assert pair.difference == pytest.approx(0.03 - np.mean(HINT))
    for seed, alone in enumerate(tuned):
        alone["student"]["checkpoints"] = f"as it was {seed}"
    assert against_each_other(compare([*hint, *tuned])) == [], "the gains say it already"


def test_old_results_that_lack_what_may_be_lacking_are_shown():
    bare = made("kd", seeds={}, data={"name": "digits"})
    bare = {key: value for key, value in bare.items() if key not in ("config", "teacher", "baseline", "overrides")}
    changed = {**bare, "overrides": ["strategy=kd", "recipe.lr=0.1"]}
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
