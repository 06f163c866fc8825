"""Temperatures from each row's own deviation (normkd)."""

import pytest
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, NO_DETACH, MethodTester, check_row_of_equal_logits
from helpers.numbers import deviation, draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError


def reference_normkd(s, t, scale):
    total = 0.0
    for one, other in zip(s, t, strict=True):
        T_s, T_t = (scale * deviation(z, 1) for z in (one, other))
        total += T_t**2 * kl(softmax(other / T_t), softmax(one / T_s))
    return total / len(s)


class TestNormKD(MethodTester):
    configs = ("normkd",)
    cases = {
        "normkd": [Case(reference_normkd, **LOGITS, rest={"scale": scale}, extreme=True) for scale in (2.0, 0.7)],
    }
    mutations = [
        ("normkd", *NO_DETACH),
        ("normkd", "teacher_temperature.squeeze(-1) ** 2", "student_temperature.squeeze(-1) ** 2", "T_s² for T_t²"),
        ("normkd", "z.std(-1, keepdim=True)", "z.std(-1, keepdim=True, correction=0)", "biased deviation"),
        ("normkd", "z.std(-1, keepdim=True)", "z.detach().std(-1, keepdim=True)", "a deviation without gradient"),
        ("normkd", "kl(log_teacher, log_student)", "kl(log_student, log_teacher)", "KL turned round"),
    ]


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="s and t must be logits"):
        functional.normkd(draw(2, 3), draw(3, 3))


@pytest.mark.parametrize("constant", ["s", "t"])
def test_a_row_of_equal_logits_is_uniform_and_its_gradient_finite(constant):
    check_row_of_equal_logits(functional.normkd, constant)


def test_the_students_scale_does_not_count():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.normkd(3 * s + 1, t).item() == pytest.approx(functional.normkd(s, t).item(), rel=1e-9)
