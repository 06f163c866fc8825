"""What the teacher is sure of, within views and across them (crld)."""

import pytest
from helpers.fits import distillation, make_batch, make_images
from helpers.method_tester import MethodTester
from helpers.model_outputs import STUDENT, TEACHER, kd_of_row
from helpers.numbers import softmax

from distillab.core.errors import UserError
from distillab.strategies.crld import AcrossViews, WithinViews


class TestCRLD(MethodTester):
    configs = ("crld",)
    by_hand = {
        "WithinViews": lambda: test_only_what_the_teacher_is_sure_of_is_learned(WithinViews, 0, [(0, 0), (1, 1)], 0.9),
        "AcrossViews": lambda: test_only_what_the_teacher_is_sure_of_is_learned(AcrossViews, 1, [(1, 0), (0, 1)], 0.9),
    }
    hand_mutations = [
        ("WithinViews", "(sure * rows).mean()", "rows[sure].mean()", "divided by the sure samples only"),
        ("WithinViews", "judge = 0", "judge = 1", "judged by the strong view"),
        ("AcrossViews", "judge = 1", "judge = 0", "judged by the weak view"),
        ("AcrossViews", "((1, 0), (0, 1))", "((1, 1), (0, 0))", "each from its own view"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: WithinViews(confidence=90), "confidence must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize(
    ("term", "judge", "pairs"), [(WithinViews, 0, [(0, 0), (1, 1)]), (AcrossViews, 1, [(1, 0), (0, 1)])]
)
@pytest.mark.parametrize("confidence", [0.0, 0.9, 1.0])
def test_only_what_the_teacher_is_sure_of_is_learned(term, judge, pairs, confidence):
    total, sure = 0.0, 0
    for i in range(6):
        if softmax(TEACHER[judge].logits[i].numpy()).max() >= confidence:
            sure += 1
            total += sum(kd_of_row(STUDENT[s].logits[i], TEACHER[t].logits[i]) for s, t in pairs)
    assert sure == {0.0: 6, 1.0: 0}.get(confidence, sure) and (confidence != 0.9 or 0 < sure < 6)
    assert term(confidence=confidence)(STUDENT, TEACHER, None).item() == pytest.approx(total / 6)


def test_one_view_is_refused():
    module = distillation("crld")
    with pytest.raises(UserError, match="learns from 2 views"):
        module.losses(make_batch(make_images(6)), tuple(module.strategy.terms))
