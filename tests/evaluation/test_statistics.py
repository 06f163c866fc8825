"""How far a difference can be trusted: closed forms, other ways to the same number, and simulated sweeps."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from distillab.evaluation.statistics import (
    excess,
    linearised,
    mean_interval,
    paired_counts,
    paired_samples,
    score_test,
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


def samples(both, only_student, only_baseline, neither):
    student = [1] * both + [1] * only_student + [0] * only_baseline + [0] * neither
    baseline = [1] * both + [0] * only_student + [1] * only_baseline + [0] * neither
    return student, baseline


def test_tangos_test_by_hand():
    found = paired_samples(*samples(300, 9, 1, 90))
    assert (found.only_student_right, found.only_baseline_right) == (9, 1)
    assert found.p == pytest.approx(2 * stats.norm.sf(8 / sqrt(10)))
    assert found.low < 0.02 < found.high and found.low > 0
    mirrored = paired_samples(*samples(300, 1, 9, 90))
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert {type(value) for value in found.model_dump(exclude_none=True).values()} == {int, float}


def test_few_differing_samples_show_no_difference():
    found = paired_samples(*samples(380, 5, 3, 12))
    assert found.p == pytest.approx(2 * stats.norm.sf(2 / sqrt(8)))
    assert found.low < 0
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
