"""Hints: the error of one map behind a connector (hint, hint_two_phase)."""

import pytest
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.hint import Hint


class TestHint(MethodTester):
    configs = ("hint", "hint_two_phase")
    cases = {
        "hint": [
            Case(
                lambda f_s, f_t: ((f_s - f_t) ** 2).mean(),
                student={"f_s": draw(2, 3, 4, 4)},
                teacher={"f_t": draw(2, 3, 4, 4, seed=1)},
            )
        ],
    }
    mutations = [
        ("hint", "*widened(f_s, f_t)", "widened(f_s, f_t)[0], f_t", "a gradient to the teacher"),
        ("hint", "return F.mse_loss(", "return F.l1_loss(", "absolute, not squared"),
    ]


@pytest.mark.parametrize(("stages", "second"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2)])
def test_the_middle_is_the_second_stage_of_three_and_of_four(stages, second):
    """RepDistiller's hint layer 2, which counts the stem: VGG's and ResNet-50's second of four, the others' of three."""
    model = info(*((2 + i, 16 >> i, 16 >> i) for i in range(stages)))
    term = Hint()
    term.connect(model, model)
    assert (term.student_stage, term.teacher_stage) == (second, second)


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="must"):
        functional.hint(draw(2, 3), draw(3, 4))
