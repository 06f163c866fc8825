"""Singular vectors of neighbouring stages (kdsvd)."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.kdsvd import AlignedVector


def reference_kdsvd(stages_s, stages_t):
    """Sample by sample."""
    total = 0.0
    for n in range(len(stages_s[0])):
        vectors = []
        for F_s, F_t in zip(stages_s, stages_t, strict=True):
            V_s, V_t = (np.linalg.svd(x[n].reshape(len(x[n]), -1).T, full_matrices=False)[2] for x in (F_s, F_t))
            v_t = V_t[0] * np.sign(V_t[0][np.abs(V_t[0]).argmax()])
            cosines = [float(v @ v_t) for v in V_s[:4]]
            best = int(np.abs(cosines).argmax())
            vectors.append((V_s[best] * np.sign(cosines[best]), v_t))
        for below, above in pairwise(vectors):
            relations = [np.exp(-((a[:, None] - b[None]) ** 2) / 8) for a, b in zip(above, below, strict=True)]
            total += ((relations[0] - relations[1]) ** 2).sum()
    return total / len(stages_s[0])


class TestKDSVD(MethodTester):
    configs = ("kdsvd",)
    cases = {
        "kdsvd": [
            Case(
                reference_kdsvd,
                student={"stages_s": [draw(2, c, 4, 4, seed=c) for c in widths]},
                teacher={"stages_t": [draw(2, c, 2, 2, seed=c + 1) for c in widths]},
                twice=False,
            )
            for widths in ((3, 5, 8), (20, 6))  # 20 channels of 16 pixels: more than the rank
        ],
    }
    mutations = [
        ("kdsvd", "F_t.detach()", "F_t", "a gradient to the teacher"),
        ("kdsvd", "square() / 8", "square() / 4", "the kernel's width"),
        ("kdsvd", "square().sum() / len(above_s)", "square().mean()", "mean over channel pairs"),
        ("kdsvd", "CANDIDATES = 4", "CANDIDATES = 1", "no choice of vector"),
        ("kdsvd", "along * turn[:, None] +", "", "half of the gradient"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(UserError, match="stages_s and stages_t must"):
        functional.kdsvd([small], [small])
    with pytest.raises(UserError, match="stages_s and stages_t must have equal channels"):
        functional.kdsvd([small, small], [small, large])


def test_dead_channels_and_flat_maps_stay_finite():
    check_dead_channels(lambda F_s, F_t: functional.kdsvd([F_s, F_s], [F_t, F_t]))


def test_the_gradient_of_a_singular_vector_is_torchs_own():
    x, vector, direction = draw(2, 9, 5).requires_grad_(), draw(2, 5, seed=1), draw(2, 5, seed=2)
    ours = torch.autograd.grad((AlignedVector.apply(x, vector) * direction).sum(), x)[0]
    vectors = torch.linalg.svd(x, full_matrices=False)[2][:, :4]
    cosine = (vectors * vector[:, None]).sum(2).detach()
    choice = cosine.abs().argmax(1)
    chosen = vectors[range(2), choice] * cosine[range(2), choice].sign()[:, None]
    torch.testing.assert_close(ours, torch.autograd.grad((chosen * direction).sum(), x)[0])
