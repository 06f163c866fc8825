"""Losses with learned parts between the models: fused stages, attention over stages, a memory of embeddings."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers.loss_checks import CHECKS, Case, draw

from distillab import Distillation, functional
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.data.images.image_batch import ImageBatch
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.strategies.base import Outputs
from distillab.strategies.crd import CRD
from distillab.strategies.reviewkd import ReviewKD
from distillab.strategies.semckd import SemCKD


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


def reference_crd_nce(scores, n_data):
    """Row by row, score by score."""
    c, total = (scores.shape[1] - 1) / n_data, 0.0
    for row in scores:
        total += math.log(row[0] / (row[0] + c + 1e-7))
        total += sum(math.log(c / (x + c + 1e-7)) for x in row[1:])
    return -total / len(scores)


CASES = {
    "hcl": [
        Case(reference_hcl, student={"F_s": draw(2, 3, n, n)}, teacher={"F_t": draw(2, 3, n, n, seed=1)})
        for n in (8, 4, 2, 1)
    ],
    "crd_nce": [
        Case(reference_crd_nce, student={"scores": draw(4, 6).abs() + 0.05}, teacher={}, rest={"n_data": n})
        for n in (7, 500)
    ],
}
MUTATIONS = [
    ("hcl", "weight /= 2", "weight /= 1", "every pool with weight 1"),
    ("hcl", "return loss / weights", "return loss", "not divided by the weights"),
    ("hcl", "side < F_s.shape[2]", "side <= F_s.shape[2]", "a pool of the map's own size"),
    ("hcl", "F_t=F_t.detach()", "F_t=F_t", "a gradient to the teacher"),
    ("crd_nce", "log_negatives.sum(1)", "log_negatives.mean(1)", "mean over the negatives"),
    ("crd_nce", "(negatives + EPSILON) / c", "negatives / c", "ε lost"),
    ("crd_nce", "return -(log_positive", "return (log_positive", "a lost sign"),
    ("crd_nce", "negatives.shape[1] / n_data", "scores.shape[1] / n_data", "the positive among the negatives"),
]
TERMS = {
    "ReviewKD": lambda: test_reviewkd_is_one_hcl_for_each_stage_and_the_embedding(),
    "SemCKD": lambda: test_semckd_weighs_pair_by_pair(),
}
TERM_MUTATIONS = [
    ("ReviewKD", "torch.stack(losses).sum()", "torch.stack(losses).mean()", "a mean"),
    ("ReviewKD", "hcl(fused, goal)", "F.mse_loss(fused, goal)", "no pools"),
    ("SemCKD", "inner(queries, keys).softmax(-1)", "inner(queries, keys).softmax(1)", "shares of the student's stages"),
    ("SemCKD", "(attention * errors).sum(-1)", "errors.mean(-1)", "no attention"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: functional.hcl(draw(2, 3, 4, 4), draw(2, 3, 2, 2)), "F_s and F_t must"),
        (lambda: functional.hcl(draw(2, 3), draw(2, 3)), "F_s and F_t must"),
        (lambda: functional.crd_nce(draw(2, 1), 5), "scores must"),
        (lambda: functional.crd_nce(draw(2, 3), 0), "n_data must"),
        (lambda: SemCKD(batch_size=2), "batch_size must"),
        (lambda: CRD(momentum=1.0), "momentum must"),
        (lambda: CRD(negatives=0), "negatives must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


def test_a_positive_that_underflowed_stays_finite():
    scores = torch.tensor([[0.0, 1.0], [1e-38, 0.0]], requires_grad=True)
    value = functional.crd_nce(scores, 10)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(scores.grad).all()


def spec(*stages, width=6, name="net"):
    stages = tuple(Stage(f"layer{i}", *shape) for i, shape in enumerate(stages))
    return FeatureInfo(name, stages, width, 10, "fc" if width else None)


def outputs(spec, seed, batch=5):
    maps = [draw(batch, s.channels, s.height, s.width, seed=seed + i).float() for i, s in enumerate(spec.stages)]
    one = SimpleNamespace(stages=maps, preactivations=maps, embedding=draw(batch, spec.embedding, seed=seed).float())
    for tensor in (*maps, one.embedding):
        tensor.requires_grad_()
    return Outputs([one])


SMALL, LARGE = spec((4, 8, 8), (6, 4, 4)), spec((5, 16, 16), (3, 2, 2), width=7)


@pytest.mark.parametrize("make", [ReviewKD, lambda: SemCKD(batch_size=16)])
@pytest.mark.parametrize("batch", [1, 5, 16, 21])
def test_connectors_train_on_maps_of_other_sizes_and_any_batch(make, batch):
    torch.manual_seed(0)
    term = make()
    term.connect(SMALL, LARGE)
    student, teacher = outputs(SMALL, 0, batch), outputs(LARGE, 9, batch)
    term(student, teacher, None).backward()
    missing = [name for name, p in term.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert all(name.endswith("bias") for name in missing), missing
    assert all(x.grad.abs().sum() > 0 for x in student.stages)
    assert all(x.grad is None for x in teacher.stages)


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


def test_semckd_weighs_pair_by_pair():
    term = SemCKD(batch_size=8)
    term.connect(SMALL, LARGE)
    term.eval()
    student, teacher = outputs(SMALL, 0, 8), outputs(LARGE, 9, 8)
    value = 0.0
    for sample in range(8):
        for i, x in enumerate(student.stages):
            query = term.queries[i](x)[sample]
            keys = [key(y)[sample] for key, y in zip(term.keys, teacher.stages, strict=True)]
            shares = torch.stack([query @ key for key in keys]).softmax(0)
            assert torch.allclose(query.norm(), torch.ones(()))
            for j, (share, y) in enumerate(zip(shares, teacher.stages, strict=True)):
                side = min(x.shape[-1], y.shape[-1])
                a, b = (torch.nn.functional.adaptive_avg_pool2d(z, side) for z in (x, y))
                value += (share * (term.projections[i][j](a)[sample] - b[sample]).square().mean()).item()
    assert term(student, teacher, None).item() == pytest.approx(value / (8 * 2), rel=1e-5)


@pytest.mark.parametrize("make", [ReviewKD, CRD])
def test_a_model_without_an_embedding_is_refused(make):
    with pytest.raises(UserError, match=r"headless has no linear head.*student\.head=fc"):
        make().connect(spec((4, 8, 8), width=None, name="headless"), SMALL)


@pytest.mark.parametrize("name", ["reviewkd", "semckd", "crd"])
def test_the_strategy_reaches_the_student(name, network):
    terms = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    module = Distillation(network(), network(seed=1, depth=14), terms, input_shape=(1, 8, 8))
    term = module.strategy.terms[name]
    term.prepare(torch.arange(40) % 10, None)
    batch = ImageBatch.of([torch.rand(6, 1, 8, 8)], torch.arange(6), torch.arange(6))
    module.losses(batch, (name,))[name].backward()
    assert sum(p.grad.abs().sum() for p in module.student.parameters() if p.grad is not None) > 0
    assert any(p.grad.abs().sum() > 0 for p in term.parameters())
