"""How a number is rounded wherever it is shown: the same number is the same text on every page."""

from decimal import ROUND_HALF_UP, Decimal
from math import isfinite

NOISE = 6  # decimals behind those shown; what lies beyond is left from the arithmetic of floats

LARGE = 1e15  # which have no decimals


def signed(number: float, digits: int) -> str:
    """A number with so many decimals and its sign, a true minus."""
    return f"{rounded(number, digits):+,.{digits}f}".replace("-", "−")


def rounded(number: float, digits: int) -> float:
    """The number with so many decimals, halves away from zero; never minus zero.

    0.125 and 0.12499999999999997, the same difference found in two ways, are both 0.13.
    """
    if not isfinite(number) or abs(number) >= LARGE:
        return number
    exact = Decimal(f"{number:.{max(digits + NOISE, 0)}f}")
    return float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)) + 0.0
