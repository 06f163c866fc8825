"""The figure of the method that is best on validation, where the true figures are known."""

import numpy as np
import pytest

from distillab.evaluation.families import Contrast
from distillab.evaluation.selection import Candidate, chosen
from distillab.evaluation.statistics import mean_interval


def study(draw, methods, runs, *, together=0.7, spread=0.0, alone=0.0):
    """True figures in points, the student alone's last, and candidates; runs are as lucky on test as on validation in part."""
    true = np.append(draw.normal(0, 1, methods) * spread, alone)
    luck, other = draw.normal(0, 1, (2, methods + 1, runs))
    test = (true[:, None] + luck) / 100
    validation = (true[:, None] + together * luck + (1 - together**2) ** 0.5 * other) / 100
    known = [Candidate(Contrast(test[k], test[-1]), validation[k]) for k in range(methods)]
    return true / 100, known, validation[-1]


def coverage(seed, studies, methods, runs, **how):
    """Of the chosen one's figure and of its gain, and the mean width of the first."""
    draw, inside, gained, widths = np.random.default_rng(seed), [], [], []
    for _ in range(studies):
        true, known, alone = study(draw, methods, runs, **how)
        found = chosen(known, alone)
        place = -1 if found.place is None else found.place
        inside.append(found.score.low <= true[place] <= found.score.high)
        widths.append(found.score.high - found.score.low)
        if found.gain:
            gained.append(found.gain.low <= true[place] - true[-1] <= found.gain.high)
    return np.mean(inside), np.mean(gained), np.mean(widths)


def test_the_best_on_validation_is_chosen_whatever_test_says():
    contrasts = [Contrast(np.array(own), np.array([0.80, 0.81])) for own in ([0.9, 0.91], [0.7, 0.72])]
    validation = [np.array([0.8, 0.8]), np.array([0.85, 0.86])]
    found = chosen(list(map(Candidate, contrasts, validation)), np.array([0.7, 0.7]))
    assert found.place == 1 and found.candidates == 3
    assert found.score.value == pytest.approx(0.71) and found.gain.value == pytest.approx(-0.095)
    assert found.score.low < 0.71 < found.score.high
    # The student alone may be the best.
    first = chosen(list(map(Candidate, contrasts, validation)), np.array([0.9, 0.9]))
    assert first.place is None and first.gain is None and first.score.value == pytest.approx(0.805)
    # Single runs have no interval.
    single = chosen([Candidate(Contrast(np.array([0.9]), np.array([0.8])), np.array([0.9]))])
    assert (single.place, single.score.low, single.gain.low) == (0, None, None)


def test_one_candidate_needs_no_correction():
    draw = np.random.default_rng(0)
    runs = draw.normal(0.9, 0.01, 5)
    found = chosen([Candidate(Contrast(runs, draw.normal(0.9, 0.01, 5)), draw.normal(0.9, 0.01, 5))])
    known = mean_interval(runs)
    assert (found.score.low, found.score.high) == pytest.approx((known.low, known.high), rel=0.02, abs=2e-4)


def test_of_36_methods_with_five_runs_the_interval_holds():
    figure, gain, width = coverage(0, 60, 36, 5)
    assert figure >= 0.945 and gain >= 0.945
    # Two and a half standard errors: the half of an interval that ignores the choice is two, one for all 36 methods three.
    assert width < 2 * 2.7 * 0.01 / 5**0.5


@pytest.mark.slow
@pytest.mark.parametrize("together", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_the_interval_holds_wherever_the_true_figures_lie(together, spread):
    figure, gain, _ = coverage(1, 300, 36, 5, together=together, spread=spread)
    assert min(figure, gain) >= 0.945 - 0.013, "a standard error"
