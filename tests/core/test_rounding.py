"""One number is one text, wherever it is shown."""

from decimal import Decimal
from fractions import Fraction

import pytest

from distillab.core.rounding import rounded


@pytest.mark.parametrize(
    ("number", "digits", "shown"),
    [(0.125, 2, 0.13), (-0.125, 2, -0.13), (-0.25, 1, -0.3), (2.5, 0, 3.0), (0.124, 2, 0.12), (1e22, 2, 1e22)],
)
def test_halves_are_rounded_away_from_zero(number, digits, shown):
    assert rounded(number, digits) == shown


def test_the_same_difference_found_in_two_ways_is_rounded_alike():
    """Of 800 images, by subtracting shares, and from the counts: floats tell the halves apart."""
    for right in range(1, 800, 2):
        share = Fraction(right, 800) - Fraction(400, 800)
        exact = 100 * Decimal(share.numerator) / Decimal(share.denominator)
        wanted = float(exact.quantize(Decimal("0.01"), "ROUND_HALF_UP"))
        assert rounded(100 * (right / 800 - 0.5), 2) == rounded(100 * right / 800 - 50, 2) == wanted
        assert rounded(100 * (0.5 + (right / 800 - 0.5) - 0.5), 2) == wanted


def test_nothing_is_minus_zero_and_what_is_not_finite_stays():
    assert f"{rounded(-1e-9, 2):+.2f}" == "+0.00" and rounded(float("inf"), 2) == float("inf")
