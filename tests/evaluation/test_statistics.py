"""How far a difference can be trusted: closed forms, other ways to the same number, and simulated sweeps."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from distillab.evaluation.statistics import (
    excess,
    gap_closed,
    holm,
    linearised,
    mean_interval,
    paired_counts,
    paired_samples,
    paired_test,
    score_test,
    smallest_gain,
    wilson,
)


def test_an_interval_is_students_t():
    found = mean_interval([0.90, 0.92, 0.94])
    # The t quantile for two degrees of freedom, from a printed table.
    assert found == pytest.approx(
        (0.92, 0.02, 0.92 - 4.3027 * 0.02 / sqrt(3), 0.92 + 4.3027 * 0.02 / sqrt(3)), abs=1e-5
    )
    narrow = mean_interval([0.90, 0.92, 0.94], level=0.5)
    assert narrow.low == pytest.approx(0.92 - 0.8165 * 0.02 / sqrt(3), abs=1e-5)
    assert mean_interval([0.9]) == (0.9, None, None, None)


def test_the_paired_test_is_scipys():
    student, baseline = [0.91, 0.935, 0.92, 0.94], [0.90, 0.91, 0.915, 0.92]
    found = paired_test([one - other for one, other in zip(student, baseline, strict=True)])
    known = stats.ttest_rel(student, baseline)
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))
    assert found.mean == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([0.02], None), ([0.95 - 0.93, 0.96 - 0.94, 0.91 - 0.89], None), ([0.0, 0.0], 1.0)],
)
def test_without_a_spread_nothing_is_called_sure(differences, p):
    found = paired_test(differences)
    assert found.mean == pytest.approx(differences[0]) and found.p == p
    assert found.low is None and found.high is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.5]) == [1.0, None, 1.0]
    assert holm([]) == [] and holm([None]) == [None]


def test_the_smallest_gain_is_found_in_four_of_five_simulated_sweeps():
    deviation, repeats = 0.01, 4000
    normal = np.random.default_rng(0).normal
    for count in (3, 5):
        gain = smallest_gain(deviation, count)
        differences = normal(gain, deviation, (repeats, count))
        shown = (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05) & (differences.mean(1) > 0)
        assert shown.mean() == pytest.approx(0.8, abs=0.025)
    # So many pairs that t is normal: the textbook's (1.96 + 0.84) standard errors.
    assert smallest_gain(deviation, 10_000) == pytest.approx((1.95996 + 0.84162) * deviation / 100, rel=1e-3)
    assert (
        smallest_gain(deviation, 5, level=0.99) > smallest_gain(deviation, 5) > smallest_gain(deviation, 5, power=0.5)
    )
    assert smallest_gain(deviation, 1) is smallest_gain(0.0, 5) is smallest_gain(None, 1) is None


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_true_gain_of_zero_is_called_no_difference(seeds):
    """One method against the baseline: wrong in 5 % of 2,000 sweeps; four methods, with Holm: wrong in at most 5 %."""
    drawn, repeats, methods = np.random.default_rng(seeds), 2000, 4
    baseline = drawn.normal(0.90, 0.01, (repeats, 1, seeds))
    students = baseline + drawn.normal(0, 0.008, (repeats, methods, seeds))
    p = [[paired_test(differences).p for differences in sweep] for sweep in students - baseline]
    assert 0.935 <= np.mean([row[0] >= 0.05 for row in p]) <= 0.965
    assert np.mean([min(holm(row)) >= 0.05 for row in p]) >= 0.935
    assert np.mean([min(row) >= 0.05 for row in p]) < 0.90, "four tests without a correction are wrong more often"


def test_a_large_gain_is_found_nearly_always():
    differences = np.random.default_rng(1).normal(0.04, 0.008, (2000, 5))
    assert np.mean([max(holm([paired_test(row).p] * 4)) < 0.05 for row in differences]) > 0.98


def samples(both, only_student, only_baseline, neither):
    student = [1] * both + [1] * only_student + [0] * only_baseline + [0] * neither
    baseline = [1] * both + [0] * only_student + [1] * only_baseline + [0] * neither
    return student, baseline


def test_tangos_test_by_hand():
    found = paired_samples(*samples(300, 9, 1, 90))
    assert (found.only_student_right, found.only_baseline_right) == (9, 1)
    assert found.p == pytest.approx(2 * stats.norm.sf(8 / sqrt(10)))
    assert found.low < 0.02 < found.high and found.low > 0
    assert found.words.startswith("these two trained files differ by +2.0 points (95 % interval ")
    mirrored = paired_samples(*samples(300, 1, 9, 90))
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert "by −2.0 points" in mirrored.words
    assert {type(value) for value in found.model_dump().values()} == {int, float, str}


def test_few_differing_samples_show_no_difference():
    found = paired_samples(*samples(380, 5, 3, 12))
    assert found.p == pytest.approx(2 * stats.norm.sf(2 / sqrt(8)))
    assert found.words.startswith("no difference shown between these two trained files") and found.low < 0
    never = paired_samples(*samples(350, 0, 0, 50))
    # Closed form: z² / (n + z²).
    end = 1.959964**2 / (400 + 1.959964**2)
    assert (never.p, never.low, never.high) == pytest.approx((1.0, -end, end), abs=1e-6)
    always = paired_samples(*samples(0, 40, 0, 0))
    assert always.high == 1.0 and 0.8 < always.low < 1


def test_the_score_interval_is_the_bootstraps_on_many_samples_and_keeps_its_promise_on_few():
    drawn = np.random.default_rng(2)
    found = paired_samples(*samples(8200, 500, 400, 900))
    counts = drawn.multinomial(10_000, [0.82, 0.05, 0.04, 0.09], 20_000)
    bootstrap = np.quantile((counts[:, 1] - counts[:, 2]) / 10_000, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(bootstrap), abs=3e-4)
    held = []
    for more, less in drawn.multinomial(60, [0.12, 0.05, 0.83], 1000)[:, :2]:
        interval = paired_samples(*samples(60 - more - less, more, less, 0))
        held.append(interval.low <= 0.07 <= interval.high)
    assert 0.93 <= np.mean(held) <= 0.975


def test_rows_that_do_not_belong_together_are_refused():
    for student, baseline in (([1, 0], [1]), ([], []), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="as many test samples"):
            paired_samples(student, baseline)


def test_p_and_interval_come_of_one_statistic():
    """They never contradict each other: every table of 40 samples, also at other levels."""
    for level in (0.95, 0.99):
        for more in range(0, 25):
            for less in range(0, 12):
                found = paired_counts(more, less, 40, level)
                assert (found.p < 1 - level) == (found.low > 0 or found.high < 0), (more, less, level)
                assert found.low <= found.value <= found.high


def test_of_documents_the_mean_is_that_of_the_ratio():
    """Against the cluster bootstrap, which resamples documents."""
    draw = np.random.default_rng(3)
    sizes = draw.integers(50, 2000, 300).astype(float)
    bits = sizes * draw.normal(0.02, 0.05, 300) + draw.normal(0, 5, 300)
    found = score_test(linearised(bits, sizes))
    assert found.value == pytest.approx(bits.sum() / sizes.sum())
    chosen = draw.integers(300, size=(4000, 300))
    bootstrap = np.quantile(bits[chosen].sum(1) / sizes[chosen].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(bootstrap), abs=0.1 * (found.high - found.low))
    assert score_test([1, 1, 0, -1]) == paired_counts(2, 1, 4)
    with pytest.raises(ValueError, match="row of test samples"):
        score_test([])


def test_wilsons_interval_is_scipys():
    known = stats.binomtest(47, 50).proportion_ci(0.95, method="wilson")
    assert wilson(47, 50) == pytest.approx((known.low, known.high))


def test_excess_by_hand():
    student, alone = np.array([1, 1, 1, 0, 0, 0], bool), np.array([1, 0, 0, 0, 0, 1], bool)
    found = excess(student, alone)
    assert (found.errors, found.repeated, found.repeated_alone, found.value) == (6, 3, 2, 1)
    assert (found.low, found.high) == pytest.approx(tuple(6 * end for end in paired_counts(2, 1, 6)[1:3]))
    none = excess(student[:0], alone[:0])
    assert (none.errors, none.low, none.high) == (0, 0, 0)
    by_document = excess(student, alone, np.array([0, 0, 1, 1, 2, 2]))
    assert by_document.value == 1 and by_document.low < 1 < by_document.high


def test_an_untaught_student_repeats_errors_but_shows_no_excess():
    """All three find the same images hard; a student that follows its teacher is found."""
    draw = np.random.default_rng(3)
    inside, repeated, found = [], [], []
    for _ in range(1500):
        hard = draw.normal(0, 2, 360)

        def answers(hard=hard):
            wrong = draw.random(360) < 1 / (1 + np.exp(2 - hard))
            return np.where(wrong, 1 + (draw.random(360) > 0.6), 0)

        teacher, alone, other = answers(), answers(), answers()
        wrong = teacher > 0
        untaught = excess((other == teacher)[wrong], (alone == teacher)[wrong])
        inside.append(untaught.low <= 0 <= untaught.high)
        repeated.append(untaught.repeated / untaught.errors)
        follows = np.where(draw.random(360) < 0.5, teacher, other)
        found.append(excess((follows == teacher)[wrong], (alone == teacher)[wrong]).low > 0)
    assert np.mean(inside) >= 0.94 and 0.19 < np.mean(repeated) < 0.58 and np.mean(found) > 0.95


def test_a_gap_that_may_be_none_has_no_share():
    assert gap_closed([0.01, 0.02, 0.015], [0.03, 0.031, 0.029]) == pytest.approx(0.5)
    assert gap_closed([0.01, 0.02], [0.03, -0.01]) is None and gap_closed([0.01], [0.03]) is None
