"""Losses over statistics of maps and embeddings: nst, vid, wkd, nd."""

import math
from itertools import product
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
from distillab.strategies.nd import NormDirection
from distillab.strategies.vid import VID
from distillab.strategies.wkd import WKD


def pooled(x, side):
    """Block by block."""
    ratio = x.shape[-1] // side
    return x.reshape(*x.shape[:-2], side, ratio, side, ratio).mean((-3, -1))


def reference_nst(F_s, F_t):
    """Channel pair by channel pair."""
    side = min(F_s.shape[-1], F_t.shape[-1])
    total = 0.0
    for one, other in zip(pooled(F_s, side), pooled(F_t, side), strict=True):
        a, b = ([c.ravel() / np.sqrt((c**2).sum()) for c in x] for x in (one, other))
        kernel = lambda x, y: np.mean([(u @ v) ** 2 for u, v in product(x, y)])  # noqa: E731
        total += kernel(b, b) + kernel(a, a) - 2 * kernel(a, b)
    return total / len(F_s)


def reference_vid(mean, target, variance):
    v = np.asarray(variance).reshape(1, -1, *[1] * (mean.ndim - 2))
    return float((0.5 * ((mean - target) ** 2 / v + np.log(v))).mean())


def reference_wkd(F_s, F_t, mean_weight=4.0, eps=1e-5):
    total = 0.0
    for n, c in product(range(len(F_s)), range(F_s.shape[1])):
        (m, a), (k, b) = ((x[n, c].mean(), math.sqrt(x[n, c].ravel().var(ddof=1) + eps)) for x in (F_s, F_t))
        total += mean_weight * (m - k) ** 2 + (a - b) ** 2
    return total / len(F_s)


def reference_nd(e_s, e_t, centers, y):
    total = 0.0
    for s, t, label in zip(e_s, e_t, y, strict=True):
        c = centers[label]
        total += 1 - s @ c / np.linalg.norm(c) / max(np.linalg.norm(s), np.linalg.norm(t))
    return total / len(e_s)


CASES = {
    "nst": [
        Case(reference_nst, student={"F_s": draw(3, 5, 4, 4)}, teacher={"F_t": draw(3, 2, 2, 2, seed=1)}),
        Case(reference_nst, student={"F_s": draw(3, 2, 2, 2)}, teacher={"F_t": draw(3, 4, 4, 4, seed=1)}),
    ],
    "vid": [
        Case(
            reference_vid,
            student={"mean": draw(2, 3, *size), "variance": draw(3, seed=2).exp()},
            teacher={"target": draw(2, 3, *size, seed=1)},
        )
        for size in ((4, 4), ())
    ],
    "wkd": [
        Case(reference_wkd, student={"F_s": draw(3, 4, 4, 4)}, teacher={"F_t": draw(3, 4, 2, 3, seed=1)}),
        Case(
            reference_wkd,
            student={"F_s": draw(3, 2, 2, 2)},
            teacher={"F_t": draw(3, 2, 2, 2, seed=1)},
            rest={"mean_weight": 1.0, "eps": 1e-2},
        ),
    ],
    "nd": [
        Case(
            reference_nd,
            student={"e_s": scale * draw(5, 3)},
            teacher={"e_t": draw(5, 3, seed=1)},
            rest={"centers": draw(4, 3, seed=2), "y": torch.tensor([0, 3, 1, 1, 2])},
            extreme=True,
        )
        for scale in (1, 4)
    ],
}
MUTATIONS = [
    ("nst", "- 2 * inner", "- inner", "the cross term once"),
    ("nst", "unit(F_s.flatten(2))", "unit(F_s.flatten(1)).view_as(F_s).flatten(2)", "one norm for all channels"),
    ("nst", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ("vid", "+ variance.log()", "- variance.log()", "a lost sign"),
    ("vid", ".mean() / 2", ".sum() / 2", "summed, not averaged"),
    ("vid", "target.detach()", "target", "a gradient to the teacher"),
    ("vid", "variance.to(mean.dtype)", "variance.detach().to(mean.dtype)", "a variance that cannot learn"),
    ("wkd", "mean_weight * mean.square() + deviation", "mean.square() + mean_weight * deviation", "the weight astray"),
    ("wkd", ".sum(1).mean()", ".mean()", "mean over channels"),
    ("wkd", "F_s.var((2, 3))", "F_s.var((2, 3), unbiased=False)", "biased variance"),
    ("wkd", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ("nd", "e_t=e_t.detach()", "e_t=e_t", "a gradient to the teacher"),
    ("nd", "(1 - along", "(1 + along", "a lost sign"),
    ("nd", "torch.maximum(", "torch.minimum(", "the shorter norm"),
    ("nd", "for e in (e_s, e_t)))", "for e in (e_s.detach(), e_t)))", "the student's norm detached"),
    ("nd", "unit(centers.detach().to(e_s.dtype))", "centers.detach().to(e_s.dtype)", "centres not normalised"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    for arguments, message in [
        (("nst", small, draw(3, 3, 2, 2)), "F_s and F_t must"),
        (("vid", small, large, draw(3)), "mean and target must"),
        (("vid", small, small, draw(2)), "variance must"),
        (("vid", small, small, torch.zeros(3)), "variance must be above 0 in every channel, got 0"),
        (("wkd", small, large), "F_s and F_t must have equal channels"),
        (("wkd", small, draw(2, 3, 1, 1)), "F_s and F_t must have more than one pixel"),
        (("nd", draw(2, 3), draw(2, 3), draw(4, 5), torch.arange(2)), "centers must"),
        (("nd", draw(2, 3), draw(2, 3), draw(4, 3), torch.arange(3)), "y must"),
    ]:
        name, *rest = arguments
        with pytest.raises(UserError, match=message):
            getattr(functional, name)(*rest)


@pytest.mark.parametrize("name", ["nst", "wkd"])
def test_dead_channels_and_flat_maps_stay_finite(name):
    few = draw(2, 8, 4, 4).float() * (torch.arange(8) < 2)[:, None, None]
    for F_s in (torch.zeros(2, 8, 4, 4), torch.ones(2, 8, 4, 4), few):
        value = getattr(functional, name)(F_s.requires_grad_(), draw(2, 8, 4, 4, seed=1).float())
        value.backward()
        assert torch.isfinite(value) and F_s.grad.abs().max() < 1e4


def test_nd_of_known_vectors():
    e_s, e_t = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    centers = torch.tensor([[0.0, 7.0], [2.0, 0.0]])
    value = functional.nd(e_s, e_t, centers, torch.tensor([0, 1]))  # 4 / 5 along, and 1 / 2
    assert value.item() == pytest.approx((0.2 + 0.5) / 2)


def spec(*stages, embedding=6):
    return FeatureInfo("net", tuple(Stage(f"layer{i}", *shape) for i, shape in enumerate(stages)), embedding, 3, "fc")


def test_the_centers_are_the_teachers_class_means_over_all_images():
    term = NormDirection()
    term.connect(spec(), spec(embedding=2))
    embedding, labels = draw(9, 2).float(), torch.tensor([0, 2, 0, 0, 2, 2, 0, 2, 0])
    parts = [
        (SimpleNamespace(embedding=e), SimpleNamespace(labels=y))
        for e, y in zip(embedding.split(4), labels.split(4), strict=True)
    ]
    term.prepare(labels, lambda: iter(parts))
    for label in (0, 2):
        torch.testing.assert_close(term.state_dict()["centers"][label], embedding[labels == label].mean(0))
    assert not term.centers[1].any()


def test_vid_starts_at_its_variance_and_the_optimiser_holds_it():
    term = VID(variance=5.0)
    term.connect(spec((4, 8, 8), (6, 4, 4)), spec((8, 4, 4), (6, 4, 4)))
    assert {f"variances.{i}" for i in range(2)} <= {name for name, p in term.named_parameters() if p.requires_grad}
    for regressor in term.regressors:
        torch.nn.init.zeros_(regressor[-1].weight)
    student = SimpleNamespace(stages=[draw(2, 4, 8, 8).float(), draw(2, 6, 4, 4).float()])
    teacher = SimpleNamespace(stages=[torch.zeros(2, 8, 4, 4), torch.zeros(2, 6, 4, 4)])
    loss = term(student, teacher, SimpleNamespace())
    assert loss.item() == pytest.approx(math.log(5.0), rel=1e-6)  # ½ log 5 for each of two stages
    loss.backward()
    assert all(p.grad.abs().min() > 0 for p in term.variances)


def test_wkd_refuses_a_single_pixel_and_no_map():
    for last in ((), ((4, 1, 1),)):
        with pytest.raises(UserError, match=r"teacher\.stages=\[…\], or choose strategy=pkt"):
            WKD().connect(spec((4, 2, 2)), spec(*last))


@pytest.mark.parametrize("name", ["nst", "vid", "wkd", "nd"])
def test_the_published_strategy_reaches_the_student_and_its_own_parts(name, network):
    config = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    module = Distillation(network(), network(seed=1, depth=14), config, input_shape=(1, 8, 8))
    loss = module.losses(ImageBatch.of([draw(6, 1, 8, 8).float()], torch.arange(6) % 3, torch.arange(6)), (name,))[name]
    own = list(module.strategy.terms[name].parameters())
    students = list(module.student.parameters())
    gradients = torch.autograd.grad(loss, students + own, allow_unused=True)
    assert sum(g.abs().sum() for g in gradients[: len(students)] if g is not None) > 0
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[len(students) :])
