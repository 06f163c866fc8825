"""Similarity-preserving KD: Gram matrices of a batch (sp)."""

from itertools import product

from helpers.method_checks import Case
from helpers.method_tester import RelationsTester, check_equal_rows
from helpers.numbers import draw, norm


def reference_sp(F_s, F_t):
    """Pair by pair."""
    rows = []
    for features in (F_s, F_t):
        gram = [[float((a * b).sum()) for b in features] for a in features]
        rows.append([[value / norm(row) for value in row] for row in gram])
    n = len(F_s)
    return sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i, j in product(range(n), range(n))) / n**2


class TestSP(RelationsTester):
    configs = ("sp",)
    cases = {
        "similarity_preserving": [
            Case(
                reference_sp,
                student={"F_s": draw(4, 3, 4, 4)},
                teacher={"F_t": draw(4, 5, 2, 2, seed=1)},
                extreme=True,
            )
        ],
    }
    mutations = [
        ("similarity_preserving", "len(F_s) ** 2", "len(F_s)", "over N, not N²"),
        ("similarity_preserving", "unit(inner(F_t, F_t))", "inner(F_t, F_t)", "one side not normalised"),
        ("similarity_preserving", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ]


def test_equal_rows_and_rows_of_zeros_have_small_gradients():
    check_equal_rows("similarity_preserving")
