"""Relational KD: distances and angles (rkd)."""

from itertools import product

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import RelationsTester, check_equal_rows
from helpers.numbers import draw, norm

from distillab import functional
from distillab.strategies import rkd

EMBEDDINGS = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 4, seed=1)}}


FAR = {"student": {"e_s": draw(5, 2) ** 3}, "teacher": {"e_t": draw(5, 3, seed=1)}}


def smooth_l1(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def reference_distance(e_s, e_t):
    sides = []
    for e in (e_s, e_t):
        all_pairs = [norm(a - b) for a in e for b in e]
        positive = [x for x in all_pairs if x > 0]
        sides.append([x / (sum(positive) / len(positive)) for x in all_pairs])
    return sum(map(smooth_l1, *sides)) / len(e_s) ** 2


def cosine(e, i, j, k):
    one, other = e[j] - e[i], e[k] - e[i]
    return float(one @ other) / (norm(one) * norm(other)) if norm(one) * norm(other) > 0 else 0.0


def reference_angle(e_s, e_t):
    n = len(e_s)
    return sum(smooth_l1(cosine(e_s, *ijk), cosine(e_t, *ijk)) for ijk in product(range(n), repeat=3)) / n**3


class TestRKD(RelationsTester):
    configs = ("rkd",)
    cases = {
        "rkd_distance": [
            Case(reference_distance, **EMBEDDINGS, extreme=True, refuses_one=True),
            Case(reference_distance, **FAR, refuses_one=True),
        ],
        "rkd_angle": [Case(reference_angle, **EMBEDDINGS, extreme=True)],
    }
    mutations = [
        ("rkd_distance", "distance.sum() / count.clamp(min=1)", "distance.mean()", "the diagonal in the mean"),
        (
            "rkd_distance",
            "root((anchors[:, None] - e).square().sum(-1))",
            "(anchors[:, None] - e).square().sum(-1)",
            "squares",
        ),
        ("rkd_distance", "e_t.detach())\n    if", "e_t)\n    if", "a gradient to the teacher"),
        ("rkd_angle", "e_t.detach())\n\n    def", "e_t)\n\n    def", "a gradient to the teacher"),
        ("rkd_angle", "/ len(e_s) ** 3", "/ len(e_s) ** 2", "over N², not N³"),
        ("rkd_angle", "unit(e - anchors[:, None])", "e - anchors[:, None]", "no cosines: inner products"),
    ]


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
@pytest.mark.parametrize("elements", [1, 2 * 9 * 9])
def test_a_part_at_a_time_gives_the_same(name, elements, monkeypatch):
    def both():
        e_s = draw(9, 4).requires_grad_()
        value = getattr(functional, name)(e_s, draw(9, 5, seed=1))
        first = torch.autograd.grad(value, e_s, create_graph=True)[0]
        return value, first, torch.autograd.grad(first.square().sum(), e_s)[0]

    whole = both()
    monkeypatch.setattr(rkd, "ELEMENTS", elements)
    for one, other in zip(both(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
def test_equal_rows_and_rows_of_zeros_have_small_gradients(name):
    check_equal_rows(name)


def test_distances_of_three_points_on_a_line():
    line = torch.tensor([[0.0], [1.0], [2.0]])  # 1, 1, 2 over their mean 4/3
    other = torch.tensor([[0.0], [1.0], [-1.0]])  # 1, 1, 2 between other pairs
    assert functional.rkd_distance(line, other).item() == pytest.approx(2 * 2 * (3 / 4) ** 2 / 2 / 9)
