"""Random numbers that are pure functions of (seed, number, sample, stream).

Written by hand on purpose: no library's generator gives every sample its own numbers, bit for bit, on every device.
"""

from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

Draw = Callable[[int], Tensor]  # stream -> (N,) uniform numbers, one per sample


class Stream(IntEnum):
    """Independent random numbers of one view; every use has its own, so a new operation changes no old one."""

    SAMPLE = 0
    ORDER = 1
    CROP_ROW = 2
    CROP_COLUMN = 3
    FLIP = 4
    CUTOUT_SIDE = 5
    CUTOUT_ROW = 6
    CUTOUT_COLUMN = 7
    OPERATION = 8  # and each one after it: which, then its sign, for every operation
    STRONG = 64  # added to each of them in the strong view
    PARTNER = 128  # and what follows: how two samples are mixed, which is one thing for all views of a number
    MIX = 129
    CUT = 130
    BOX_ROW = 131
    BOX_COLUMN = 132
    CLASS = 133  # and what follows: which sample stands where in the order of classes drawn evenly
    MEMBER = 134
    TOKEN = 135  # which token of a teacher's distribution is drawn for the cache
    WRITTEN = 136  # and which is written
    WRITES = 137  # whether the student writes a batch of its own fit
    OWN = 138  # and which token it writes at a position


_STEP = 0x9E3779B97F4A7C15 - 2**64  # as int64
_MULTIPLIERS = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _shift(word: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign; masking makes the shift logical.
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _MULTIPLIERS[0]
    word = (word ^ _shift(word, 27)) * _MULTIPLIERS[1]
    return word ^ _shift(word, 31)


def random_bits(seed: int, number: int, index: Tensor, stream: int) -> Tensor:
    """Hash (seed, number, stream, index) to 64 random bits by SplitMix64 (Steele et al., OOPSLA 2014).

    The seed is any int64, the number that of a view or an epoch; index (N,) int64 → bits (N,) int64 on its device.
    """
    key = torch.zeros((), dtype=torch.int64)
    for word in (seed, number, int(stream)):
        key = _mix((key ^ word) + _STEP)
    return _mix((index.long() + 1) * _STEP + int(key))


def uniform(view_seed: int, number: int, index: Tensor, stream: int) -> Tensor:
    """Draw one number per sample: (N,) float32 in [0, 1), a pure function of the arguments (see `random_bits`)."""
    return _shift(random_bits(view_seed, number, index, stream), 40).float() * 2.0**-24
