"""KD at a learned temperature (ctkd)."""

import math

import pytest
import torch
from helpers.method_tester import MethodTester
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.ctkd import CurriculumKD


class TestCTKD(MethodTester):
    configs = ("ctkd",)
    by_hand = {"CurriculumKD": lambda: test_the_learned_temperature_climbs_what_the_student_descends()}
    hand_mutations = [
        (
            "CurriculumKD",
            "(1 + self.strength) * self.theta.detach() - self.strength * self.theta",
            "self.theta",
            "not reversed",
        ),
        ("CurriculumKD", "0.5 * (1 - math.cos(math.pi * risen))", "risen", "a straight ramp"),
        ("CurriculumKD", "(self.highest - self.lowest)", "self.highest", "highest above lowest, not above 0"),
    ]


def test_the_learned_temperature_climbs_what_the_student_descends():
    term = CurriculumKD(lowest=1.0, highest=21.0, reversal=1.0, ramp=10)
    s, t = draw(5, 7), draw(5, 7, seed=1)
    plain = functional.kd(s, t, 1 + 20 / (1 + math.exp(-1)))
    strengths = {}
    for epoch in (0, 4, 9, 30):
        term.set_epoch(epoch, 240)
        value = term.rows(s, t, None).mean()
        assert value.item() == pytest.approx(plain.item(), rel=1e-5)
        (gradient,) = torch.autograd.grad(value, term.theta)
        strengths[epoch] = gradient.item()
    up, down = (functional.kd(s, t, 1 + 20 / (1 + math.exp(-theta))) for theta in (1 + 1e-4, 1 - 1e-4))
    slope = (up - down).item() / 2e-4
    for epoch, share in {0: 0.5 - 0.5 * math.cos(math.pi / 10), 4: 0.5, 9: 1.0, 30: 1.0}.items():
        assert strengths[epoch] == pytest.approx(-share * slope, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lowest": 0}, "lowest must be"),
        ({"highest": 1}, "highest must be a number above 1"),
        ({"ramp": -1}, "ramp must"),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        CurriculumKD(**arguments)
