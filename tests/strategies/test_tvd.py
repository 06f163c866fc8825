"""Half the sum of differences (tvd)."""

import pytest
import torch
from helpers.divergences import DivergenceTester, cases
from helpers.numbers import draw

from distillab import functional


class TestTVD(DivergenceTester):
    configs = ("tvd",)
    cases = {"tvd": cases(lambda p, q: sum(max(a - b, 0) for a, b in zip(p, q, strict=True)), {"temperature": 2.0}, {})}
    mutations = [
        ("tvd", "temperature**2 * 0.5 *", "temperature**2 *", "the half"),
        ("tvd", "temperature**2 * 0.5 *", "0.5 *", "T² dropped"),
        ("tvd", ".sum(-1)", ".mean(-1)", "mean over classes"),
    ]


def test_two_classes_and_the_most_there_can_be():
    s = torch.tensor([[0.0, 0.0], [60.0, -60.0]]).double()
    t = torch.tensor([[3.0, 1.0], [-60.0, 60.0]]).double()
    assert functional.tvd(s[:1], t[:1]).item() == pytest.approx(torch.tensor(2.0).sigmoid().item() - 0.5)
    assert functional.tvd(s[1:], t[1:]).item() == pytest.approx(1)
    assert functional.tvd(draw(5, 7), draw(5, 7, seed=1)).item() < 1
