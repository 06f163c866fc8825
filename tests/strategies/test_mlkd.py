"""Multi-level logits over two views (mlkd)."""

import pytest
from helpers.fits import distillation, make_batch, make_images
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, MethodTester
from helpers.model_outputs import STUDENT, TEACHER
from helpers.numbers import draw, softmax

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.mlkd import BatchAlignment, ClassAlignment, InstanceAlignment


def reference_batch_gram(s, t, temperature):
    """Every pair of samples."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    return sum((a @ b - c @ d) ** 2 for a, c in zip(p, q, strict=True) for b, d in zip(p, q, strict=True)) / len(s)


def reference_class_gram(s, t, temperature):
    """Every pair of classes."""
    p, q = softmax(t / temperature).T, softmax(s / temperature).T
    return sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i in range(len(p)) for j in range(len(p))) / len(p)


class TestMLKD(MethodTester):
    configs = ("mlkd",)
    cases = {
        "batch_gram": [Case(reference_batch_gram, **LOGITS, rest={"temperature": t}, extreme=True) for t in (1.0, 4.0)],
        "class_gram": [Case(reference_class_gram, **LOGITS, rest={"temperature": t}, extreme=True) for t in (1.0, 4.0)],
    }
    mutations = [
        ("batch_gram", "gram_distance(q, p) / len(s)", "gram_distance(q, p) / len(s) ** 2", "divided by B²"),
        ("batch_gram", "inner(p, p)", "inner(p, q)", "one Gram matrix of both sides"),
        ("batch_gram", "= widened(s, t)", "= s, t", "a gradient to the teacher"),
        ("batch_gram", "(s / temperature)", "s", "the student's temperature lost"),
        ("class_gram", "/ s.shape[1]", "/ s.shape[1] ** 2", "divided by C²"),
        ("class_gram", "inner(p, p) - inner(q, q)", "inner(p, p) + inner(q, q)", "a lost sign"),
        ("class_gram", "gram_distance(q.T, p.T)", "gram_distance(q, p)", "samples instead of classes"),
        ("class_gram", "= widened(s, t)", "= s, t", "a gradient to the teacher"),
    ]
    by_hand = {
        "InstanceAlignment": lambda: test_alignments_are_summed_over_views_and_temperatures(InstanceAlignment, "kd")
    }
    hand_mutations = [
        (
            "InstanceAlignment",
            "for temperature in self.temperatures]).sum()",
            "for temperature in self.temperatures]).mean()",
            "a mean",
        ),
        ("InstanceAlignment", "for view in (0, 1)]", "for view in (0, 0)]", "the weak view twice"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.batch_gram(draw(2, 3), draw(3, 4)), "s and t must"),
        (lambda: functional.class_gram(draw(2, 3, 4), draw(2, 3, 4)), "s and t must"),
        (lambda: functional.class_gram(draw(2, 3), draw(2, 3), 0), "temperature must"),
        (lambda: InstanceAlignment(temperatures=[2, 0]), "temperatures must"),
        (lambda: InstanceAlignment(temperatures=[]), "temperatures must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize(
    ("term", "function"), [(InstanceAlignment, "kd"), (BatchAlignment, "batch_gram"), (ClassAlignment, "class_gram")]
)
def test_alignments_are_summed_over_views_and_temperatures(term, function):
    loss = getattr(functional, function)
    expected = sum(loss(STUDENT[v].logits, TEACHER[v].logits, t).item() for v in (0, 1) for t in (2, 3, 4, 5, 6))
    assert term()(STUDENT, TEACHER, None).item() == pytest.approx(expected)


def test_one_view_is_refused():
    module = distillation("mlkd")
    with pytest.raises(UserError, match="learns from 2 views"):
        module.losses(make_batch(make_images(6)), tuple(module.strategy.terms))
