"""Calibration error: by hand, and of networks whose true calibration is known."""

import numpy as np
import pytest

from distillab.evaluation.calibration import Answers, calibration, calibration_error, worse_calibrated


def drawn(draw, samples, over=0.0):
    """Answers that are right less often than their confidence says, by so much."""
    confidence = 0.3 + 0.7 * draw.beta(3, 1, samples)
    return Answers(confidence, draw.random(samples) < confidence - over)


def test_by_hand():
    # Two samples in one bin, one in another: |.61 + .62 - 1| and |.9 - 1|, over three.
    answers = Answers(np.array([0.61, 0.62, 0.9]), np.array([True, False, True]))
    assert calibration_error(answers) == pytest.approx((0.23 + 0.1) / 3)
    # Documents change the interval, not the figure.
    assert calibration_error(answers._replace(cluster=np.array([0, 0, 1]))) == pytest.approx((0.23 + 0.1) / 3)


def test_a_calibrated_network_has_an_error_too_and_it_is_told():
    """About four points on 360 images; 5 % are above the quantile, and as many p are below .05."""
    draw = np.random.default_rng(0)
    found = [calibration(drawn(draw, 360)) for _ in range(120)]
    assert np.mean([one.value for one in found]) == pytest.approx(np.mean([one.expected for one in found]), rel=0.05)
    assert 0.03 < found[0].expected < 0.06 < 1.2 * found[0].most
    above = np.mean([one.value > one.most for one in found])
    assert above == pytest.approx(np.mean([one.p < 0.05 for one in found]), abs=0.01) and above <= 0.09
    assert np.mean([one.low == 0 for one in found]) >= 0.91


def test_an_overconfident_network_is_found_and_the_interval_holds():
    draw = np.random.default_rng(1)
    found = [calibration(drawn(draw, 1000, over=0.1)) for _ in range(60)]
    assert np.mean([one.p < 0.05 for one in found]) > 0.95
    assert np.mean([one.low <= 0.1 <= one.high for one in found]) >= 0.9
    assert all(0 < one.low < one.value <= one.high for one in found if one.p < 0.05)


def test_a_method_that_spoils_calibration_is_told_from_one_that_does_not():
    draw = np.random.default_rng(2)
    same = [worse_calibrated(drawn(draw, 600, 0.05), drawn(draw, 600, 0.05)) for _ in range(100)]
    assert np.mean([one.low > 0 for one in same]) <= 0.07
    spoiled = [worse_calibrated(drawn(draw, 1000, 0.15), drawn(draw, 1000)) for _ in range(50)]
    assert np.mean([one.low > 0 for one in spoiled]) > 0.95
    answers = drawn(draw, 100)
    alike = worse_calibrated(answers, answers)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0, 0, 0), abs=1e-7)
    assert worse_calibrated(*(drawn(np.random.default_rng(5), 50),) * 2) == worse_calibrated(
        *(drawn(np.random.default_rng(5), 50),) * 2
    )
