"""Losses over the images of a batch: sp, cc, pkt, rkd."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from helpers.loss_checks import CHECKS, Case, draw

from distillab import Distillation, functional
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.data.images.image_batch import ImageBatch
from distillab.models.feature_info import FeatureInfo
from distillab.strategies import rkd
from distillab.strategies.cc import CorrelationCongruence
from distillab.strategies.strategy import Strategy


def norm(x):
    return math.sqrt(sum(float(a) ** 2 for a in np.ravel(x)))


def reference_sp(F_s, F_t):
    """Pair by pair."""
    rows = []
    for features in (F_s, F_t):
        gram = [[float((a * b).sum()) for b in features] for a in features]
        rows.append([[value / norm(row) for value in row] for row in gram])
    n = len(F_s)
    return sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i, j in product(range(n), range(n))) / n**2


def reference_cc(e_s, e_t):
    n, d = e_s.shape
    total = 0.0
    for i, c in product(range(n - 1), range(d)):
        total += abs(e_s[i, c] - e_t[i, c]) * abs(e_s[i + 1, c] - e_t[i + 1, c])
    return total / (n - 1)


def reference_pkt(e_s, e_t, eps=1e-7):
    """Pair by pair; eps also lies in the norms."""
    sides = []
    for e in (e_s, e_t):
        e = [row / (norm(row) + eps) for row in e]
        rows = [[(1 + float(a @ b)) / 2 for b in e] for a in e]
        sides.append([value / sum(row) for row in rows for value in row])
    return sum(t * math.log((t + eps) / (s + eps)) for s, t in zip(*sides, strict=True)) / len(e_s) ** 2


def smooth_l1(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def reference_distance(e_s, e_t):
    sides = []
    for e in (e_s, e_t):
        all_pairs = [norm(a - b) for a in e for b in e]
        positive = [x for x in all_pairs if x > 0]
        sides.append([x / (sum(positive) / len(positive)) for x in all_pairs])
    return sum(map(smooth_l1, *sides)) / len(e_s) ** 2


def cosine(e, i, j, k):
    one, other = e[j] - e[i], e[k] - e[i]
    return float(one @ other) / (norm(one) * norm(other)) if norm(one) * norm(other) > 0 else 0.0


def reference_angle(e_s, e_t):
    n = len(e_s)
    return sum(smooth_l1(cosine(e_s, *ijk), cosine(e_t, *ijk)) for ijk in product(range(n), repeat=3)) / n**3


EMBEDDINGS = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 4, seed=1)}}
FAR = {"student": {"e_s": draw(5, 2) ** 3}, "teacher": {"e_t": draw(5, 3, seed=1)}}
EQUAL = {"student": {"e_s": draw(5, 3)}, "teacher": {"e_t": draw(5, 3, seed=1)}}
CASES = {
    "similarity_preserving": [
        Case(
            reference_sp,
            student={"F_s": draw(4, 3, 4, 4)},
            teacher={"F_t": draw(4, 5, 2, 2, seed=1)},
            extreme=True,
        )
    ],
    "correlation_congruence": [Case(reference_cc, **EQUAL, extreme=True, refuses_one=True)],
    "pkt": [
        Case(reference_pkt, **EMBEDDINGS, extreme=True),
        Case(reference_pkt, **EMBEDDINGS, rest={"eps": 1e-2}),
    ],
    "rkd_distance": [
        Case(reference_distance, **EMBEDDINGS, extreme=True, refuses_one=True),
        Case(reference_distance, **FAR, refuses_one=True),
    ],
    "rkd_angle": [Case(reference_angle, **EMBEDDINGS, extreme=True)],
}
MUTATIONS = [
    ("similarity_preserving", "len(F_s) ** 2", "len(F_s)", "over N, not N²"),
    ("similarity_preserving", "unit(inner(F_t, F_t))", "inner(F_t, F_t)", "one side not normalised"),
    ("similarity_preserving", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ("correlation_congruence", ".sum(1).mean()", ".mean()", "mean over the embedding, not its sum"),
    ("correlation_congruence", "(e_s - e_t).abs()", "(e_s - e_t)", "signs kept"),
    ("correlation_congruence", "e_t.detach()", "e_t", "a gradient to the teacher"),
    ("pkt", "(P_t + eps) / (P_s + eps)", "(P_s + eps) / (P_t + eps)", "the sign lost"),
    ("pkt", "P_t * ((P_t + eps)", "P_s * ((P_t + eps)", "weighted by the student"),
    ("pkt", "log()).mean()", "log()).sum(1).mean()", "summed over each row"),
    ("pkt", "e_t.detach()", "e_t", "a gradient to the teacher"),
    ("rkd_distance", "distance.sum() / count.clamp(min=1)", "distance.mean()", "the diagonal in the mean"),
    (
        "rkd_distance",
        "root((anchors[:, None] - e).square().sum(-1))",
        "(anchors[:, None] - e).square().sum(-1)",
        "squares",
    ),
    ("rkd_distance", "e_t.detach())\n    if", "e_t)\n    if", "a gradient to the teacher"),
    ("rkd_angle", "e_t.detach())\n\n    def", "e_t)\n\n    def", "a gradient to the teacher"),
    ("rkd_angle", "/ len(e_s) ** 3", "/ len(e_s) ** 2", "over N², not N³"),
    ("rkd_angle", "unit(e - anchors[:, None])", "e - anchors[:, None]", "no cosines: inner products"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


@pytest.mark.parametrize("name", CASES)
def test_one_set_of_relations_costs_nothing(name):
    same = draw(5, 3)
    assert getattr(functional, name)(same, same).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_batches_of_unequal_size_are_refused(name):
    with pytest.raises(UserError, match=r"_s and ._t must"):
        getattr(functional, name)(draw(2, 3), draw(3, 3))


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle"])
@pytest.mark.parametrize("elements", [1, 2 * 9 * 9])
def test_a_part_at_a_time_gives_the_same(name, elements, monkeypatch):
    def both():
        e_s = draw(9, 4).requires_grad_()
        value = getattr(functional, name)(e_s, draw(9, 5, seed=1))
        first = torch.autograd.grad(value, e_s, create_graph=True)[0]
        return value, first, torch.autograd.grad(first.square().sum(), e_s)[0]

    whole = both()
    monkeypatch.setattr(rkd, "ELEMENTS", elements)
    for one, other in zip(both(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["similarity_preserving", "pkt", "rkd_distance", "rkd_angle"])
def test_equal_rows_and_rows_of_zeros_have_small_gradients(name):
    e_s = torch.cat([draw(4, 3), draw(4, 3), torch.zeros(2, 3)]).float().requires_grad_()
    getattr(functional, name)(e_s, draw(10, 3, seed=1).float()).backward()
    limit = 1e7 if name == "pkt" else 10  # the published eps in pkt's norms lets a row of zeros have 1 / eps
    assert e_s.grad.abs().max() < limit


def test_distances_of_three_points_on_a_line():
    line = torch.tensor([[0.0], [1.0], [2.0]])  # 1, 1, 2 over their mean 4/3
    other = torch.tensor([[0.0], [1.0], [-1.0]])  # 1, 1, 2 between other pairs
    assert functional.rkd_distance(line, other).item() == pytest.approx(2 * 2 * (3 / 4) ** 2 / 2 / 9)


@pytest.mark.parametrize("name", ["sp", "cc", "pkt", "rkd"])
def test_the_published_strategy_reaches_the_student_and_not_the_teacher(name, network):
    config = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    module = Distillation(network(), network(seed=1, depth=14), config, input_shape=(1, 8, 8))
    terms = [term for term in module.strategy.terms if term != "ce"]
    batch = ImageBatch.of([draw(6, 1, 8, 8).float()], torch.arange(6), torch.arange(6))
    for term, loss in module.losses(batch, tuple(terms)).items():
        assert module.strategy.terms[term].global_batch
        learning = [p for p in module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, learning, allow_unused=True, retain_graph=True)
        assert sum(g.abs().sum() for g in gradients if g is not None) > 0, term
    assert not any(p.requires_grad for p in module.teacher.parameters())


def test_only_the_students_projection_trains():
    specs = FeatureInfo("small", (), 6, 10, "fc"), FeatureInfo("large", (), 8, 10, "fc")
    term = CorrelationCongruence(width=4)
    term.connect(*specs)
    assert {n for n, p in term.named_parameters() if p.requires_grad} == {
        "student_projection.weight",
        "student_projection.bias",
    }
    assert "teacher_projection.weight" in term.state_dict()  # a resumed run must compare with the same one


def test_a_model_without_a_head_is_refused():
    headless = FeatureInfo("headless", (), None, 10, None)
    with pytest.raises(UserError, match=r"strategy\.cc: headless has no linear head .* teacher\.head=fc"):
        Strategy({"cc": CorrelationCongruence()}).connect(FeatureInfo("small", (), 6, 10, "fc"), headless, 0)
