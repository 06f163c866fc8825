"""More losses on logits: those that standardise (kd_std, normkd, luminet), abkd, and ctkd's learned temperature."""

import math

import numpy as np
import pytest
import torch
from helpers.loss_checks import CHECKS, Case, draw, softmax
from test_losses_logits import kl

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.ctkd import CurriculumKD


def deviation(z, less):
    """Standard deviation of a list, divided by its length − `less`."""
    mean = sum(z) / len(z)
    return math.sqrt(sum((x - mean) ** 2 for x in z) / (len(z) - less))


def reference_standardized(s, t):
    scaled = [[(row - sum(row) / len(row)) / (deviation(row, 1) + 1e-7) for row in z] for z in (s, t)]
    return 4.0 * np.mean([kl(softmax(b / 2), softmax(a / 2)) for a, b in zip(*scaled, strict=True)])


def reference_normkd(s, t, scale):
    total = 0.0
    for one, other in zip(s, t, strict=True):
        T_s, T_t = (scale * deviation(z, 1) for z in (one, other))
        total += T_t**2 * kl(softmax(other / T_t), softmax(one / T_s))
    return total / len(s)


def reference_luminet(s, t, temperature):
    scaled = []
    for z in (s, t):
        columns = [
            (z[:, c] - z[:, c].sum() / len(z)) / math.sqrt(deviation(z[:, c], 0) ** 2 + 1e-5) for c in range(z.shape[1])
        ]
        scaled.append(np.stack(columns, 1))
    return np.mean([kl(softmax(b / temperature), softmax(a / temperature)) for a, b in zip(*scaled, strict=True)])


def reference_abkd(s, t, alpha, beta):
    """Class by class."""
    total = 0.0
    for p, q in zip(softmax(t), softmax(s), strict=True):
        for a, b in zip(p, q, strict=True):
            whole = alpha + beta
            total += a**alpha * b**beta - alpha / whole * a**whole - beta / whole * b**whole
    return -total / (alpha * beta) / len(s)


def reference_limit(s, t, alpha, beta):
    """The limits as they are written, each in its own branch."""
    total = 0.0
    for p, q in zip(softmax(t).ravel(), softmax(s).ravel(), strict=True):
        if alpha == beta == 0:
            total += 0.5 * math.log(p / q) ** 2
        elif beta == 0:
            total += (p**alpha * math.log(p**alpha / q**alpha) - p**alpha + q**alpha) / alpha**2
        elif alpha == 0:
            total += (q**beta * math.log(q**beta / p**beta) - q**beta + p**beta) / beta**2
        else:
            total += (math.log(q**alpha / p**alpha) + p**alpha / q**alpha - 1) / alpha**2
    return total / len(s)


LOGITS = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1)}}
LIMITS = [(0.8, 0.0), (0.0, 0.3), (0.7, -0.7), (0.0, 0.0)]
CASES = {
    "standardize": [Case(reference_standardized, **LOGITS, extreme=True)],
    "normkd": [Case(reference_normkd, **LOGITS, rest={"scale": scale}, extreme=True) for scale in (2.0, 0.7)],
    "luminet": [Case(reference_luminet, **LOGITS, rest={"temperature": T}, extreme=True) for T in (4.0, 1.0)],
    "abkd": [
        *(
            Case(reference_abkd, **LOGITS, rest={"alpha": alpha, "beta": beta}, extreme=beta > 0)
            for alpha, beta in [(0.8, 0.3), (1.2, -0.4)]
        ),
        *(
            Case(reference_limit, **LOGITS, rest={"alpha": alpha, "beta": beta}, extreme=beta >= 0)
            for alpha, beta in LIMITS
        ),
    ],
}
# A function that gives no scalar is checked by what it is used for.
COMPOSED = {
    "standardize": lambda s, t: functional.kd(functional.standardize(s), functional.standardize(t), 2.0),
}
NO_DETACH = "s, t = widened(s, t)", "s, t = widened(s, t)[0], t", "a gradient to the teacher"
MUTATIONS = [
    *((name, *NO_DETACH) for name in CASES if name not in COMPOSED),
    ("standardize", "z.std(-1, keepdim=True)", "z.std(-1, keepdim=True, correction=0)", "biased deviation"),
    ("standardize", "z.std(-1, keepdim=True)", "z.std()", "the deviation of all rows"),
    ("standardize", "z.std(-1, keepdim=True)", "z.detach().std(-1, keepdim=True)", "a deviation without gradient"),
    ("normkd", "teacher_temperature.squeeze(-1) ** 2", "student_temperature.squeeze(-1) ** 2", "T_s² for T_t²"),
    ("normkd", "z.std(-1, keepdim=True)", "z.std(-1, keepdim=True, correction=0)", "biased deviation"),
    ("normkd", "z.std(-1, keepdim=True)", "z.detach().std(-1, keepdim=True)", "a deviation without gradient"),
    ("normkd", "kl(log_teacher, log_student)", "kl(log_student, log_teacher)", "KL turned round"),
    ("luminet", "correction=0", "correction=1", "unbiased variance"),
    ("luminet", "z.var(0, correction=0)", "z.detach().var(0, correction=0)", "a variance without gradient"),
    ("luminet", "kl(log_teacher, log_student)", "temperature**2 * kl(log_teacher, log_student)", "T² added"),
    ("luminet", "kl(log_teacher, log_student)", "kl(log_student, log_teacher)", "KL turned round"),
    ("abkd", "F.log_softmax(t, -1), F.log_softmax(s, -1)", "F.log_softmax(s, -1), F.log_softmax(t, -1)", "α and β exchanged"),
    ("abkd", "- mixed).sum(-1) / (alpha * beta)", "- mixed).sum(-1)", "1/(αβ) dropped"),
    ("abkd", "alpha / total * p + beta / total * q", "p / alpha + q / beta", "1/α and 1/β for the shares"),
    ("abkd", "- mixed).sum(-1)", "- mixed).mean(-1)", "mean over classes"),
]  # fmt: skip
TERMS = {"CurriculumKD": lambda: test_the_learned_temperature_climbs_what_the_student_descends()}
TERM_MUTATIONS = [
    (
        "CurriculumKD",
        "(1 + self.strength) * self.theta.detach() - self.strength * self.theta",
        "self.theta",
        "not reversed",
    ),
    ("CurriculumKD", "0.5 * (1 - math.cos(math.pi * risen))", "risen", "a straight ramp"),
    ("CurriculumKD", "(self.highest - self.lowest)", "self.highest", "highest above lowest, not above 0"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(COMPOSED.get(name) or getattr(functional, name), case)


@pytest.mark.parametrize("name", ["normkd", "luminet", "abkd"])
def test_shapes_that_differ_are_refused(name):
    with pytest.raises(UserError, match="s and t must be logits"):
        getattr(functional, name)(draw(2, 3), draw(3, 3))


def test_standardised_rows_have_mean_0_and_unbiased_deviation_1():
    z = functional.standardize(100 * draw(5, 7) + 3)
    torch.testing.assert_close(z.mean(1), torch.zeros(5).double())
    torch.testing.assert_close(z.std(1), torch.ones(5).double())
    assert functional.standardize(draw(2, 3).half()).dtype == torch.float32
    with pytest.raises(UserError, match="z must be logits"):
        functional.standardize(draw(4))


@pytest.mark.parametrize("name", ["standardize", "normkd"])
@pytest.mark.parametrize("constant", ["s", "t"])
def test_a_row_of_equal_logits_is_uniform_and_its_gradient_finite(name, constant):
    logits = {"s": draw(5, 7).float(), "t": draw(5, 7, seed=1).float()}
    logits[constant][0] = 0.1
    s = logits["s"].requires_grad_()
    value = (COMPOSED.get(name) or getattr(functional, name))(s, logits["t"])
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


def test_normkd_and_luminet_do_not_see_the_students_scale():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.normkd(3 * s + 1, t).item() == pytest.approx(functional.normkd(s, t).item(), rel=1e-9)
    assert functional.luminet(3 * s + 1, t).item() == pytest.approx(functional.luminet(s, t).item(), rel=1e-3)
    assert functional.luminet(s[:1], t[:1]).item() == 0


@pytest.mark.parametrize(("alpha", "beta"), LIMITS)
def test_abkd_at_its_limits_is_what_lies_beside_them(alpha, beta):
    s, t = draw(5, 7), draw(5, 7, seed=1)
    beside = functional.abkd(s, t, alpha + 1e-4, beta + 2e-4)
    assert functional.abkd(s, t, alpha, beta).item() == pytest.approx(beside.item(), rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("alpha", "beta"), LIMITS)
@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-7, 1e-10, 1e-16])
def test_abkd_keeps_its_value_on_the_way_to_a_limit(alpha, beta, step, dtype):
    s, t = draw(5, 7).to(dtype), draw(5, 7, seed=1).to(dtype)
    limit = functional.abkd(s.double(), t.double(), alpha, beta).item()
    rounding = 0.05 if dtype == torch.float32 else 1e-4
    beside = functional.abkd(s, t, alpha + step, beta + 2 * step).item()
    assert beside == pytest.approx(limit, rel=20 * step + rounding)


def test_abkd_holds_both_kl_divergences():
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.abkd(s, t, 1.0, 0.0).item() == pytest.approx(functional.kd(s, t, 1.0).item(), rel=1e-9)
    assert functional.abkd(s, t, 0.0, 1.0).item() == pytest.approx(functional.kd(t, s, 1.0).item(), rel=1e-9)


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
