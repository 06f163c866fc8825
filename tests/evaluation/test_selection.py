"""The figure of the method that is best on validation, where the true figures are known."""

import numpy as np
import pytest

from distillab.evaluation.selection import Figures, chosen
from distillab.evaluation.statistics import mean_interval


def study(draw, methods, runs, *, together=0.7, spread=0.0, alone=0.0):
    """True figures in points, the student alone's last, and candidates; runs are as lucky on test as on validation in part."""
    true = np.append(draw.normal(0, 1, methods) * spread, alone)
    luck, other = draw.normal(0, 1, (2, methods + 1, runs))
    test = (true[:, None] + luck) / 100
    validation = (true[:, None] + together * luck + (1 - together**2) ** 0.5 * other) / 100
    *known, last = map(Figures, test, validation)
    return true / 100, known, last


def coverage(seed, studies, methods, runs, **how):
    """Of the chosen one's figure, and the mean width of its interval."""
    draw, inside, widths = np.random.default_rng(seed), [], []
    for _ in range(studies):
        true, known, alone = study(draw, methods, runs, **how)
        found = chosen(known, alone)
        place = -1 if found.place is None else found.place
        inside.append(found.score.low <= true[place] <= found.score.high)
        widths.append(found.score.high - found.score.low)
    return np.mean(inside), np.mean(widths)


def test_the_best_on_validation_is_chosen_whatever_test_says():
    tests, validations = ([0.9, 0.91], [0.7, 0.72]), ([0.8, 0.8], [0.85, 0.86])
    known = [Figures(*map(np.array, each)) for each in zip(tests, validations, strict=True)]
    found = chosen(known, Figures(np.array([0.80, 0.81]), np.array([0.7, 0.7])))
    assert found.place == 1 and found.score.value == pytest.approx(0.71)
    assert found.score.low < 0.71 < found.score.high
    # The student alone may be the best, and is so where it is equal.
    for alone in (0.9, np.mean(validations[1])):
        first = chosen(known, Figures(np.array([0.80, 0.81]), np.array([alone, alone])))
        assert first.place is None and first.score.value == pytest.approx(0.805)
    # Single runs have no interval.
    single = chosen([Figures(np.array([0.9]), np.array([0.9]))])
    assert (single.place, single.score) == (0, (0.9, None, None))


def test_one_candidate_needs_no_correction():
    draw = np.random.default_rng(0)
    runs = draw.normal(0.9, 0.01, 5)
    found = chosen([Figures(runs, draw.normal(0.9, 0.01, 5))])
    known = mean_interval(runs)
    assert (found.score.low, found.score.high) == pytest.approx((known.low, known.high), rel=0.02, abs=2e-4)


def test_of_36_methods_with_five_runs_the_interval_holds():
    figure, width = coverage(0, 60, 36, 5)
    assert figure >= 0.945
    # Two and a half standard errors: the half of an interval that ignores the choice is two, one for all 36 methods three.
    assert width < 2 * 2.7 * 0.01 / 5**0.5


@pytest.mark.slow
@pytest.mark.parametrize("together", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_the_interval_holds_wherever_the_true_figures_lie(together, spread):
    figure, _ = coverage(1, 300, 36, 5, together=together, spread=spread)
    assert figure >= 0.945 - 0.013, "a standard error"
