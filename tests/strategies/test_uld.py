"""The distance between sorted probabilities (uld)."""

import pytest
import torch
from helpers.divergences import DivergenceTester, cases
from helpers.fits import SHAPE, make_batch, make_images, small, strategy
from helpers.method_checks import Case
from helpers.numbers import draw, softmax

from distillab import Distillation, functional
from distillab.core.errors import UserError


def distance(p, q):
    p, q = sorted(p, reverse=True), sorted(q, reverse=True)
    lists = [[row[i] if i < len(row) else 0.0 for i in range(max(len(p), len(q)))] for row in (p, q)]
    return sum(abs(a - b) for a, b in zip(*lists, strict=True))


def reference(s, t, temperature=1.0):
    pairs = zip(softmax(t / temperature), softmax(s / temperature), strict=True)
    return temperature**2 * sum(distance(p, q) for p, q in pairs) / len(s)


class TestULD(DivergenceTester):
    configs = ("uld",)
    cases = {
        "uld": [
            *cases(distance, {"temperature": 2.0}, {}),
            Case(reference, {"s": draw(5, 7)}, {"t": draw(5, 9, seed=1)}, extreme=True),
            Case(reference, {"s": draw(5, 7)}, {"t": draw(5, 4, seed=1)}, extreme=True),
        ]
    }
    mutations = [
        ("uld", "z.topk(most).values", "z[..., :most]", "not sorted"),
        ("uld", "z.topk(most)", "z.topk(most, largest=False)", "zeros among the likeliest"),
        ("uld", " + rest", "", "the longer list cut"),
        ("uld", "temperature**2 * (", "(", "T² dropped"),
        ("uld", ".abs().sum(-1)", ".abs().mean(-1)", "mean over classes"),
        ("uld", "s, t = widened(s, t)", "s, t = widened(s, t)[0], t.to(s.dtype)", "a gradient to the teacher"),
    ]

    def test_arguments_that_do_not_go_together_are_refused(self):
        """Rows must go together, outputs need not."""
        with pytest.raises(UserError, match=r"logits \(N, C\) and \(N, D\), got \(2, 3\) and \(3, 3\)"):
            functional.uld(draw(2, 3), draw(3, 3))
        with pytest.raises(UserError, match="temperature must be a number above 0"):
            functional.uld(draw(2, 3), draw(2, 4), 0)


def test_names_of_outputs_do_not_matter():
    s = draw(5, 7)
    assert functional.uld(s, s[:, torch.randperm(7)]).item() == pytest.approx(0, abs=1e-12)


def test_one_class_against_two():
    s, t = torch.tensor([[50.0, -50.0]]).double(), torch.zeros(1, 4).double()
    assert functional.uld(s, t).item() == pytest.approx(0.75 + 0.75)


def test_it_alone_lets_two_models_have_other_outputs():
    teacher = small(1, 14, classes=12)
    module = Distillation(small(), teacher, strategy("uld"), input_shape=SHAPE)
    losses = module.losses(make_batch(make_images(4)), ("ce", "uld"))
    assert torch.isfinite(sum(losses.values()))
    for parts in (strategy("kd"), strategy("uld", "kd")):
        with pytest.raises(UserError, match=r"tells 10 classes apart and .* 12"):
            Distillation(small(), teacher, parts, input_shape=SHAPE)
