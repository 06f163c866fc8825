"""Losses over how neighbouring stages relate: fsp, kdsvd."""

from itertools import pairwise

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
from distillab.strategies.fsp import FSP
from distillab.strategies.kdsvd import KDSVD, AlignedVector


def pooled(x, side):
    """Block by block."""
    ratio = x.shape[-1] // side
    return x.reshape(*x.shape[:-2], side, ratio, side, ratio).mean((-3, -1))


def reference_fsp(bottom_s, top_s, bottom_t, top_t):
    def flow(bottom, top):
        side = min(bottom.shape[-1], top.shape[-1])
        bottom, top = pooled(bottom, side), pooled(top, side)
        return [[[(a * b).mean() for a in x] for b in y] for x, y in zip(bottom, top, strict=True)]

    return float(((np.array(flow(bottom_s, top_s)) - np.array(flow(bottom_t, top_t))) ** 2).mean())


def reference_kdsvd(stages_s, stages_t):
    """Sample by sample."""
    total = 0.0
    for n in range(len(stages_s[0])):
        vectors = []
        for F_s, F_t in zip(stages_s, stages_t, strict=True):
            V_s, V_t = (np.linalg.svd(x[n].reshape(len(x[n]), -1).T, full_matrices=False)[2] for x in (F_s, F_t))
            v_t = V_t[0] * np.sign(V_t[0][np.abs(V_t[0]).argmax()])
            cosines = [float(v @ v_t) for v in V_s[:4]]
            best = int(np.abs(cosines).argmax())
            vectors.append((V_s[best] * np.sign(cosines[best]), v_t))
        for below, above in pairwise(vectors):
            relations = [np.exp(-((a[:, None] - b[None]) ** 2) / 8) for a, b in zip(above, below, strict=True)]
            total += ((relations[0] - relations[1]) ** 2).sum()
    return total / len(stages_s[0])


CASES = {
    "fsp": [
        Case(
            reference_fsp,
            student={"bottom_s": draw(2, 3, 4, 4), "top_s": draw(2, 5, 2, 2, seed=1)},
            teacher={"bottom_t": draw(2, 3, 8, 8, seed=2), "top_t": draw(2, 5, 4, 4, seed=3)},
        )
    ],
    "kdsvd": [
        Case(
            reference_kdsvd,
            student={"stages_s": [draw(2, c, 4, 4, seed=c) for c in widths]},
            teacher={"stages_t": [draw(2, c, 2, 2, seed=c + 1) for c in widths]},
            twice=False,
        )
        for widths in ((3, 5, 8), (20, 6))  # 20 channels of 16 pixels: more than the rank
    ],
}
MUTATIONS = [
    ("fsp", "/ top.shape[2]", "", "summed over pixels"),
    ("fsp", "top_t.detach()", "top_t", "a gradient to the teacher"),
    ("kdsvd", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ("kdsvd", "square() / 8", "square() / 4", "the kernel's width"),
    ("kdsvd", "square().sum() / len(relation_s)", "square().mean()", "mean over channel pairs"),
    ("kdsvd", "CANDIDATES = 4", "CANDIDATES = 1", "no choice of vector"),
    ("kdsvd", "along * turn[:, None] +", "", "half of the gradient"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    for arguments, message in [
        (("fsp", small, small, large, small), "bottom_s and bottom_t must have equal channels"),
        (("kdsvd", [small], [small]), "stages_s and stages_t must"),
        (("kdsvd", [small, small], [small, large]), "stages_s and stages_t must have equal channels"),
    ]:
        name, *rest = arguments
        with pytest.raises(UserError, match=message):
            getattr(functional, name)(*rest)


@pytest.mark.parametrize("name", ["fsp", "kdsvd"])
def test_dead_channels_and_flat_maps_stay_finite(name):
    few = draw(2, 8, 4, 4).float() * (torch.arange(8) < 2)[:, None, None]
    F_t = draw(2, 8, 4, 4, seed=1).float()
    for F_s in (torch.zeros(2, 8, 4, 4), torch.ones(2, 8, 4, 4), few):
        F_s.requires_grad_()
        arguments = {"kdsvd": ([F_s, F_s], [F_t, F_t]), "fsp": (F_s, F_s, F_t, F_t)}[name]
        value = getattr(functional, name)(*arguments)
        value.backward()
        assert torch.isfinite(value) and F_s.grad.abs().max() < 1e4


def test_the_gradient_of_a_singular_vector_is_torchs_own():
    x, vector, direction = draw(2, 9, 5).requires_grad_(), draw(2, 5, seed=1), draw(2, 5, seed=2)
    ours = torch.autograd.grad((AlignedVector.apply(x, vector) * direction).sum(), x)[0]
    vectors = torch.linalg.svd(x, full_matrices=False)[2][:, :4]
    cosine = (vectors * vector[:, None]).sum(2).detach()
    choice = cosine.abs().argmax(1)
    chosen = vectors[range(2), choice] * cosine[range(2), choice].sign()[:, None]
    torch.testing.assert_close(ours, torch.autograd.grad((chosen * direction).sum(), x)[0])


def spec(*stages):
    return FeatureInfo("net", tuple(Stage(f"layer{i}", *shape) for i, shape in enumerate(stages)), 6, 3, "fc")


@pytest.mark.parametrize("term", [FSP, KDSVD])
def test_unequal_channels_and_a_single_stage_are_refused_with_an_alternative(term):
    with pytest.raises(UserError, match=r"layer1 \(8×4×4\) where net has layer1 \(16×4×4\); choose strategy=attention"):
        term().connect(spec((4, 8, 8), (8, 4, 4)), spec((4, 8, 8), (16, 4, 4)))
    with pytest.raises(UserError, match="neighbouring stages"):
        term().connect(spec((4, 8, 8)), spec((4, 8, 8)))


@pytest.mark.parametrize("name", ["fsp", "kdsvd"])
def test_the_published_strategy_reaches_the_student(name, network):
    config = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    module = Distillation(network(), network(seed=1, depth=14), config, input_shape=(1, 8, 8))
    loss = module.losses(ImageBatch.of([draw(6, 1, 8, 8).float()], torch.arange(6) % 3, torch.arange(6)), (name,))[name]
    students = list(module.student.parameters())
    gradients = torch.autograd.grad(loss, students, allow_unused=True)
    assert sum(g.abs().sum() for g in gradients if g is not None) > 0
