"""KD of standardised logits (standardize, kd_std)."""

import numpy as np
import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, MethodTester, check_row_of_equal_logits
from helpers.numbers import deviation, draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError


def reference_standardized(s, t):
    scaled = [[(row - sum(row) / len(row)) / (deviation(row, 1) + 1e-7) for row in z] for z in (s, t)]
    return 4.0 * np.mean([kl(softmax(b / 2), softmax(a / 2)) for a, b in zip(*scaled, strict=True)])


class TestStandardize(MethodTester):
    configs = ("kd_std",)
    cases = {
        "standardize": [Case(reference_standardized, **LOGITS, extreme=True)],
    }
    composed = {
        "standardize": lambda s, t: functional.kd(functional.standardize(s), functional.standardize(t), 2.0),
    }
    mutations = [
        ("standardize", "z.std(-1, keepdim=True)", "z.std(-1, keepdim=True, correction=0)", "biased deviation"),
        ("standardize", "z.std(-1, keepdim=True)", "z.std()", "the deviation of all rows"),
        ("standardize", "z.std(-1, keepdim=True)", "z.detach().std(-1, keepdim=True)", "a deviation without gradient"),
    ]


def test_standardised_rows_have_mean_0_and_unbiased_deviation_1():
    z = functional.standardize(100 * draw(5, 7) + 3)
    torch.testing.assert_close(z.mean(1), torch.zeros(5).double())
    torch.testing.assert_close(z.std(1), torch.ones(5).double())
    assert functional.standardize(draw(2, 3).half()).dtype == torch.float32
    with pytest.raises(UserError, match="z must be logits"):
        functional.standardize(draw(4))


@pytest.mark.parametrize("constant", ["s", "t"])
def test_a_row_of_equal_logits_is_uniform_and_its_gradient_finite(constant):
    check_row_of_equal_logits(TestStandardize.scalar("standardize"), constant)
