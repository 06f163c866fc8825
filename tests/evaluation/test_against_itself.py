"""A method against itself: equal runs differ in about 5 % of the splits, and a wrong test is found out."""

from math import comb

import numpy as np
import pytest
from scipy import special, stats

from distillab.evaluation.against_itself import Repeats, against_itself, halves
from distillab.evaluation.families import Finding, family


def equal(generator, runs=8, images=None, methods=1):
    """Methods whose runs come from one distribution; with images some are harder than others, for all runs alike."""
    if images is None:
        return [Repeats(0.9 + 0.01 * generator.normal(size=runs)) for _ in range(methods)]
    found = []
    for _ in range(methods):
        easy = generator.beta(3, 1, size=images)
        right = (generator.random((runs, images)) < easy).astype(float)
        found.append(Repeats(right.mean(1), right))
    return found


def by_t(contrasts):
    """The paired t-test, corrected by Šidák."""
    return [_found(one, lambda t, n: 2 * special.stdtr(n - 1, -abs(t)), len(contrasts)) for one in contrasts]


def without_correction(contrasts):
    return [_found(one, lambda t, n: 2 * special.stdtr(n - 1, -abs(t)), 1) for one in contrasts]


def without_an_unknown_deviation(contrasts):
    """As if the deviation of so few runs were that of all."""
    return [_found(one, lambda t, n: 2 * special.ndtr(-abs(t)), len(contrasts)) for one in contrasts]


def _found(one, p, size):
    differences = one.own - one.reference
    n = len(differences)
    statistic = differences.mean() / (differences.std(ddof=1) / n**0.5)
    return Finding(differences.mean(), n, p=float(1 - (1 - p(statistic, n)) ** size), size=size)


def mean_share(test, studies, **how):
    generator = np.random.default_rng(1)
    return np.mean([against_itself(equal(generator, **how), test).scores.value for _ in range(studies)])


def test_splits_are_all_ways_once_or_as_many_as_are_drawn():
    for runs in (4, 6, 10):
        found = halves(runs)
        assert len(found) == comb(runs, runs // 2) // 2 == len({tuple(own) for own, _ in found})
        assert all(sorted(own + other) == list(range(runs)) for own, other in found)
    assert halves(7) == halves(6)  # an odd run is left out
    drawn = halves(20)
    assert len(drawn) == 1000 == len({tuple(own) for own, _ in drawn}) and drawn == halves(20)
    assert all(sorted(own + other) == list(range(20)) for own, other in drawn)


def test_equal_methods_differ_in_about_five_percent_and_a_wrong_test_in_far_more():
    assert 0.03 < mean_share(family, 50) < 0.07
    assert 0.03 < mean_share(by_t, 60) < 0.07
    assert mean_share(without_an_unknown_deviation, 40) > 0.1
    assert 0.03 < mean_share(by_t, 40, methods=8) < 0.07
    assert mean_share(without_correction, 40, methods=8) > 0.2


def test_a_single_study_tells_a_wrong_test_from_a_right_one():
    runs = equal(np.random.default_rng(3), runs=10, methods=8)
    right, wrong = (against_itself(runs, test) for test in (by_t, without_correction))
    assert (right.low, right.high) == (wrong.low, wrong.high)
    assert right.scores.value <= right.high < wrong.scores.value


def test_the_range_of_a_right_test_holds_for_95_of_100_studies():
    generator, inside = np.random.default_rng(4), 0
    for _ in range(100):
        study = against_itself(equal(generator, runs=8), by_t)
        inside += study.low <= study.scores.value <= study.high
    assert 0.9 <= inside / 100 <= 1.0 and study.high > 0.08  # far wider than 35 independent tests would make it


def test_answers_to_test_samples_make_a_test_of_runs_and_samples_and_one_of_two_files():
    shares = []
    generator = np.random.default_rng(5)
    for _ in range(6):
        study = against_itself(equal(generator, images=200))
        assert study.tested is study.samples and study.samples.first[0].speaks_of == ("runs", "samples")
        assert study.single.of == comb(8, 2) and study.single.first[0].speaks_of == ("samples",)
        shares.append((study.scores.value, study.samples.value, study.single.value))
    assert all(mean < 0.09 for mean in np.mean(shares, 0))  # of equal files too: here runs differ by chance alone
    apart = equal(generator, images=2000)[0]
    apart.samples[:4] = np.maximum(apart.samples[:4], generator.random((4, 2000)) < 0.2)  # runs of another quality
    apart = apart._replace(scores=apart.samples.mean(1))
    assert against_itself([apart]).single.value > 0.5  # the files differ, whatever the method


def test_the_first_split_is_what_its_contrast_says():
    (one,) = equal(np.random.default_rng(6))
    study = against_itself([one], by_t)
    own, other = halves(8)[0]
    known = stats.ttest_rel(one.scores[own], one.scores[other])
    assert (study.scores.first[0].p, study.runs) == (pytest.approx(known.pvalue), 4)
    assert study.samples is None and study.single is None and study.tested is study.scores


@pytest.mark.parametrize("counts", [(3,), (4, 6), ()])
def test_too_few_runs_are_refused(counts):
    with pytest.raises(ValueError, match="four runs of each method"):
        against_itself([Repeats(np.arange(float(count))) for count in counts])
