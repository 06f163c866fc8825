"""Knowledge review: fused stages (reviewkd)."""

import numpy as np
import pytest
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import LARGE, SMALL, check_connectors_train, info, outputs
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.reviewkd import ReviewKD


def reference_hcl(F_s, F_t):
    """Pool after pool, block by block."""
    side = F_s.shape[-1]
    value = ((F_s - F_t) ** 2).mean()
    total, k = 1.0, 0
    for cells in (4, 2, 1):
        if cells >= side:
            continue
        k += 1
        block, squares = side // cells, []
        for row in range(cells):
            for column in range(cells):
                part = np.s_[:, :, row * block : (row + 1) * block, column * block : (column + 1) * block]
                squares.append((F_s[part].mean((2, 3)) - F_t[part].mean((2, 3))) ** 2)
        value += 2.0**-k * np.mean(squares)
        total += 2.0**-k
    return value / total


class TestReviewKD(MethodTester):
    configs = ("reviewkd",)
    cases = {
        "hcl": [
            Case(reference_hcl, student={"F_s": draw(2, 3, n, n)}, teacher={"F_t": draw(2, 3, n, n, seed=1)})
            for n in (8, 4, 2, 1)
        ],
    }
    mutations = [
        ("hcl", "weight /= 2", "weight /= 1", "every pool with weight 1"),
        ("hcl", "return loss / weights", "return loss", "not divided by the weights"),
        ("hcl", "side < F_s.shape[2]", "side <= F_s.shape[2]", "a pool of the map's own size"),
        ("hcl", "F_t=F_t.detach()", "F_t=F_t", "a gradient to the teacher"),
    ]
    by_hand = {"ReviewKD": lambda: test_reviewkd_is_one_hcl_for_each_stage_and_the_embedding()}
    hand_mutations = [
        ("ReviewKD", "torch.stack(losses).sum()", "torch.stack(losses).mean()", "a mean"),
        ("ReviewKD", "hcl(fused, goal)", "F.mse_loss(fused, goal)", "no pools"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.hcl(draw(2, 3, 4, 4), draw(2, 3, 2, 2)), "F_s and F_t must"),
        (lambda: functional.hcl(draw(2, 3), draw(2, 3)), "F_s and F_t must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize("batch", [1, 5, 16, 21])
def test_connectors_train_on_maps_of_other_sizes_and_any_batch(batch):
    check_connectors_train(ReviewKD(), batch)


def test_reviewkd_is_one_hcl_for_each_stage_and_the_embedding():
    term = ReviewKD().eval()
    term.connect(SMALL, LARGE)
    student, teacher = outputs(SMALL, 0), outputs(LARGE, 9)
    fused, value = None, 0.0
    maps, goals = ([side.embedding[..., None, None], *side.stages[::-1]] for side in (student, teacher))
    assert [goal.shape[1:] for goal in goals] == [(7, 1, 1), (3, 2, 2), (5, 16, 16)]
    for fusion, x, goal in zip(term.fusions, maps, goals, strict=True):
        out, fused = fusion(x, fused)
        assert out.shape == goal.shape and fused.shape[1] == 6
        value += functional.hcl(out, goal).item()
    assert term(student, teacher, None).item() == pytest.approx(value, rel=1e-5)


def test_a_model_without_an_embedding_is_refused():
    with pytest.raises(UserError, match=r"headless has no linear head.*student\.head=fc"):
        ReviewKD().connect(info((4, 8, 8), embedding=None, name="headless"), SMALL)
