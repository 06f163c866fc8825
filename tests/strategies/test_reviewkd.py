"""Knowledge review: fused stages (reviewkd)."""

import numpy as np
import pytest
import torch
from helpers.fits import distillation, make_batch, make_images
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


@pytest.mark.parametrize(("student_maps", "read"), [("after", "stages"), ("before", "preactivations")])
def test_the_students_maps_are_those_before_or_after_its_activation(student_maps, read):
    """The authors' on CIFAR are after it, on ImageNet before; the teacher's are always before it."""
    term = ReviewKD(student_maps=student_maps).eval()
    assert term.needs[0] == f"student.{read}" and "teacher.preactivations" in term.needs
    term.connect(SMALL, LARGE)
    student, teacher = outputs(SMALL, 0), outputs(LARGE, 9)
    expected = term(student, teacher, None)
    other = {"stages": "preactivations", "preactivations": "stages"}
    for one, wrong in ((student[0], other[read]), (teacher[0], "stages")):
        setattr(one, wrong, None)
    assert torch.equal(term(student, teacher, None), expected)


def test_a_run_reads_the_students_maps_after_its_relu():
    module = distillation("reviewkd")
    assert "stages" in module.extractors[0].needs and "preactivations" not in module.extractors[0].needs
    seen = []
    module.strategy.terms["reviewkd"].fusions[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module.losses(make_batch(make_images()), ("reviewkd",))
    assert (seen[0] >= 0).all() and (seen[0] == 0).any()


def test_maps_from_elsewhere_are_refused():
    with pytest.raises(UserError, match="student_maps must be one of after, before"):
        ReviewKD(student_maps="both")


def test_a_model_without_an_embedding_is_refused():
    with pytest.raises(UserError, match=r"headless has no linear head.*student\.head=fc"):
        ReviewKD().connect(info((4, 8, 8), embedding=None, name="headless"), SMALL)
