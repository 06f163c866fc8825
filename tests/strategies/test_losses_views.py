"""Losses of logits over two views, and of parts of the image."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers.loss_checks import CHECKS, Case, draw, softmax
from torch import nn

from distillab import Distillation, functional
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.data.images.image_batch import ImageBatch
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Outputs
from distillab.strategies.crld import AcrossViews, WithinViews
from distillab.strategies.mlkd import BatchAlignment, ClassAlignment, InstanceAlignment
from distillab.strategies.parts.two_views import TwoViewCrossEntropy
from distillab.strategies.sdd import ScaleDecoupledKD


def reference_batch_gram(s, t, temperature):
    """Every pair of samples."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    return sum((a @ b - c @ d) ** 2 for a, c in zip(p, q, strict=True) for b, d in zip(p, q, strict=True)) / len(s)


def reference_class_gram(s, t, temperature):
    """Every pair of classes."""
    p, q = softmax(t / temperature).T, softmax(s / temperature).T
    return sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i in range(len(p)) for j in range(len(p))) / len(p)


LOGITS = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1)}}
CASES = {
    "batch_gram": [Case(reference_batch_gram, **LOGITS, rest={"temperature": t}, extreme=True) for t in (1.0, 4.0)],
    "class_gram": [Case(reference_class_gram, **LOGITS, rest={"temperature": t}, extreme=True) for t in (1.0, 4.0)],
}
MUTATIONS = [
    ("batch_gram", "gram_distance(q, p) / len(s)", "gram_distance(q, p) / len(s) ** 2", "divided by B²"),
    ("batch_gram", "inner(p, p)", "inner(p, q)", "one Gram matrix of both sides"),
    ("batch_gram", "= widened(s, t)", "= s, t", "a gradient to the teacher"),
    ("batch_gram", "(s / temperature)", "s", "the student's temperature lost"),
    ("class_gram", "/ s.shape[1]", "/ s.shape[1] ** 2", "divided by C²"),
    ("class_gram", "inner(p, p) - inner(q, q)", "inner(p, p) + inner(q, q)", "a lost sign"),
    ("class_gram", "gram_distance(q.T, p.T)", "gram_distance(q, p)", "samples instead of classes"),
    ("class_gram", "= widened(s, t)", "= s, t", "a gradient to the teacher"),
]
TERMS = {
    "InstanceAlignment": lambda: test_alignments_are_summed_over_views_and_temperatures(InstanceAlignment, "kd"),
    "WithinViews": lambda: test_only_what_the_teacher_is_sure_of_is_learned(WithinViews, 0, [(0, 0), (1, 1)], 0.9),
    "AcrossViews": lambda: test_only_what_the_teacher_is_sure_of_is_learned(AcrossViews, 1, [(1, 0), (0, 1)], 0.9),
    "ScaleDecoupledKD": lambda: test_cells_by_hand(),
}
TERM_MUTATIONS = [
    ("InstanceAlignment", "for temperature in self.temperatures]).sum()", "for temperature in self.temperatures]).mean()", "a mean"),
    ("InstanceAlignment", "for view in (0, 1)]", "for view in (0, 0)]", "the weak view twice"),
    ("WithinViews", "(sure * rows).mean()", "rows[sure].mean()", "divided by the sure samples only"),
    ("WithinViews", "self.of_sure(t_weak, ", "self.of_sure(t_strong, ", "judged by the strong view"),
    ("AcrossViews", "self.of_sure(t_strong, ", "self.of_sure(t_weak, ", "judged by the weak view"),
    ("AcrossViews", "(strong, t_weak), (weak, t_strong)", "(strong, t_strong), (weak, t_weak)", "each from its own view"),
    ("ScaleDecoupledKD", "1 + (cell_right != whole_right", "1 + (cell_right == whole_right", "agreement counts twice"),
    ("ScaleDecoupledKD", "(counts.flatten() * rows).mean()", "rows.mean()", "every cell once"),
]  # fmt: skip
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.batch_gram(draw(2, 3), draw(3, 4)), "s and t must"),
        (lambda: functional.class_gram(draw(2, 3, 4), draw(2, 3, 4)), "s and t must"),
        (lambda: functional.class_gram(draw(2, 3), draw(2, 3), 0), "temperature must"),
        (lambda: InstanceAlignment(temperatures=[2, 0]), "temperatures must"),
        (lambda: InstanceAlignment(temperatures=[]), "temperatures must"),
        (lambda: WithinViews(confidence=90), "confidence must"),
        (lambda: ScaleDecoupledKD(grids=[0]), "grids must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


# ------------------------------------------------------------------ two views


def two(seed, scale=1.0):
    return Outputs([SimpleNamespace(logits=scale * draw(6, 4, seed=seed + view)) for view in (0, 1)])


def kd_of_row(s, t):
    p, q = softmax(t.numpy() / 4), softmax(s.numpy() / 4)
    return 16 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


STUDENT, TEACHER = two(0), two(2, scale=4.0)


def test_cross_entropy_of_both_views_is_summed():
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    value = TwoViewCrossEntropy()(STUDENT, None, SimpleNamespace(labels=labels))
    expected = (
        -sum(math.log(softmax(STUDENT[v].logits.numpy())[i, y]) for v in (0, 1) for i, y in enumerate(labels)) / 6
    )
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("term", "function"), [(InstanceAlignment, "kd"), (BatchAlignment, "batch_gram"), (ClassAlignment, "class_gram")]
)
def test_alignments_are_summed_over_views_and_temperatures(term, function):
    loss = getattr(functional, function)
    expected = sum(loss(STUDENT[v].logits, TEACHER[v].logits, t).item() for v in (0, 1) for t in (2, 3, 4, 5, 6))
    assert term()(STUDENT, TEACHER, None).item() == pytest.approx(expected)


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


@pytest.mark.parametrize("name", ["mlkd", "crld", "sdd"])
def test_the_strategy_reaches_the_student(name, network):
    terms = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    teacher = network(seed=1, depth=14)
    teacher.fc.weight.data *= 100  # sure of something
    module = Distillation(network(), teacher, terms, input_shape=(1, 8, 8))
    batch = ImageBatch.of([torch.rand(6, 1, 8, 8) for _ in (0, 1)], torch.arange(6), torch.arange(6))
    for loss in module.losses(batch, tuple(terms)).values():
        gradients = torch.autograd.grad(loss, list(module.student.parameters()), allow_unused=True, retain_graph=True)
        assert sum(g.abs().sum() for g in gradients if g is not None) > 0
    if name != "sdd":
        with pytest.raises(UserError, match="learns from 2 views"):
            module.losses(ImageBatch.of([torch.rand(6, 1, 8, 8)], torch.arange(6), torch.arange(6)), tuple(terms))


# ------------------------------------------------------------------ parts of the image


def image_model(channels, seed, side=4):
    torch.manual_seed(seed)
    head, x = nn.Linear(channels, 3).double(), 3 * draw(5, channels, side, side, seed=seed)
    return SimpleNamespace(last_map=x, head=head, logits=head(x.mean((2, 3))))


def test_cells_by_hand():
    student, teacher = image_model(4, 0), image_model(6, 1)
    labels, total, doubled = torch.tensor([0, 1, 2, 0, 1]), 0.0, 0
    cells = [np.s_[:, :]] + [np.s_[r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
    for i, label in enumerate(labels):
        whole = teacher.logits[i].argmax() == label
        for rows, columns in cells:
            s, t = (m.head(m.last_map[i, :, rows, columns].mean((1, 2))).detach() for m in (student, teacher))
            differs = (t.argmax() == label) != whole
            doubled += int(differs)
            total += (2 if differs else 1) * kd_of_row(s, t)
    term = ScaleDecoupledKD()
    term.infos = (None, None)
    value = term.eval()(Outputs([student]), Outputs([teacher]), SimpleNamespace(labels=labels))
    assert 0 < doubled < 20 and value.item() == pytest.approx(total / 25)


def test_a_head_that_does_not_read_the_last_map_is_refused():
    stage = Stage("layer3", 4, 4, 4)
    plain, other = FeatureInfo("plain", (stage,), 4, 3, "fc"), FeatureInfo("wide", (stage,), 9, 3, "fc")
    with pytest.raises(UserError, match="the head of wide does not read"):
        ScaleDecoupledKD().connect(plain, other)
    term = ScaleDecoupledKD().eval()
    term.connect(plain, plain)
    student, batch = image_model(4, 0), SimpleNamespace(labels=torch.zeros(5, dtype=torch.int64))
    shuffled = SimpleNamespace(**vars(image_model(4, 1)) | {"logits": torch.zeros(5, 3).double()})
    with pytest.raises(UserError, match="the head of plain does not read"):
        term(Outputs([student]), Outputs([shuffled]), batch)
