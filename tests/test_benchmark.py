"""The benchmark runs every case and reports ratios; how fast it is no test says."""

import numpy as np
import pytest

from distillab import benchmark
from distillab.benchmark_loops import BATCH, CLASSES, SHAPE, WARMUP, images_per_second


def test_every_case_runs_and_stands_in_the_table():
    steps, draw = WARMUP + 2, np.random.default_rng(0)
    pixels = draw.integers(256, size=(BATCH * steps, *SHAPE), dtype=np.uint8)
    found = benchmark.measure_pair(
        ("resnet8", "resnet8"), pixels, draw.integers(CLASSES, size=len(pixels)), steps, False
    )
    for numbers in found.values():
        assert set(numbers) == set(benchmark.CASES) and all(value > 0 for value in numbers.values())
    assert benchmark.table({"resnet8-resnet8": found}).count("×") == 2 * len(benchmark.CASES)


def test_the_median_step_counts_and_the_warm_up_does_not():
    ends = [0, 9, 18, 27, 28, 29, 60, 61]  # slow at first, and once disturbed
    assert images_per_second(ends) == pytest.approx(BATCH)
