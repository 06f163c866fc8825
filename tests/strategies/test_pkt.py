"""Probabilistic knowledge transfer (pkt)."""

import math

from helpers.method_checks import Case
from helpers.method_tester import RelationsTester, check_equal_rows
from helpers.numbers import draw, norm

EMBEDDINGS = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 4, seed=1)}}


def reference_pkt(e_s, e_t, eps=1e-7):
    """Pair by pair; eps also lies in the norms."""
    sides = []
    for e in (e_s, e_t):
        e = [row / (norm(row) + eps) for row in e]
        rows = [[(1 + float(a @ b)) / 2 for b in e] for a in e]
        sides.append([value / sum(row) for row in rows for value in row])
    return sum(t * math.log((t + eps) / (s + eps)) for s, t in zip(*sides, strict=True)) / len(e_s) ** 2


class TestPKT(RelationsTester):
    configs = ("pkt",)
    cases = {
        "pkt": [
            Case(reference_pkt, **EMBEDDINGS, extreme=True),
            Case(reference_pkt, **EMBEDDINGS, rest={"eps": 1e-2}),
        ],
    }
    mutations = [
        ("pkt", "(P_t + eps) / (P_s + eps)", "(P_s + eps) / (P_t + eps)", "the sign lost"),
        ("pkt", "P_t * ((P_t + eps)", "P_s * ((P_t + eps)", "weighted by the student"),
        ("pkt", "log()).mean()", "log()).sum(1).mean()", "summed over each row"),
        ("pkt", "e_t.detach()", "e_t", "a gradient to the teacher"),
    ]


# The published eps in the norms lets a row of zeros have 1 / eps.
def test_equal_rows_and_rows_of_zeros_have_small_gradients():
    check_equal_rows("pkt", limit=1e7)
