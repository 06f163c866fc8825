"""The flow between neighbouring stages (fsp)."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fits import distillation, make_batch, make_images
from helpers.method_checks import Case
from helpers.method_tester import MethodTester, check_dead_channels
from helpers.model_outputs import info
from helpers.numbers import draw, pooled

from distillab import functional
from distillab.core.errors import UserError
from distillab.models.feature_info import Stage
from distillab.strategies.base import Outputs
from distillab.strategies.fsp import FSP


def reference_fsp(bottom_s, top_s, bottom_t, top_t):
    def flow(bottom, top):
        side = min(bottom.shape[-1], top.shape[-1])
        bottom, top = pooled(bottom, side), pooled(top, side)
        return [[[(a * b).mean() for a in x] for b in y] for x, y in zip(bottom, top, strict=True)]

    return float(((np.array(flow(bottom_s, top_s)) - np.array(flow(bottom_t, top_t))) ** 2).mean())


class TestFSP(MethodTester):
    configs = ("fsp",)
    cases = {
        "fsp": [
            Case(
                reference_fsp,
                student={"bottom_s": draw(2, 3, 4, 4), "top_s": draw(2, 5, 2, 2, seed=1)},
                teacher={"bottom_t": draw(2, 3, 8, 8, seed=2), "top_t": draw(2, 5, 4, 4, seed=3)},
            )
        ],
    }
    mutations = [
        ("fsp", "/ top.shape[2]", "", "summed over pixels"),
        ("fsp", "top_t.detach()", "top_t", "a gradient to the teacher"),
    ]


def test_shapes_that_do_not_go_together_are_refused():
    small, large = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(UserError, match="bottom_s and bottom_t must have equal channels"):
        functional.fsp(small, small, large, small)


def test_dead_channels_and_flat_maps_stay_finite():
    check_dead_channels(lambda F_s, F_t: functional.fsp(F_s, F_s, F_t, F_t))


def stacked(stem, *shapes):
    """A model whose maps have these shapes, the stem's first, and what it gives."""
    model = info(*shapes)
    return replace(model, stem=None if stem is None else Stage("conv1", *stem))


def given(model, seed):
    maps = [draw(2, s.channels, s.height, s.width, seed=seed + i) for i, s in enumerate(model.stages)]
    stem = None if model.stem is None else draw(2, model.stem.channels, *model.stem.size, seed=seed + 9)
    return Outputs([SimpleNamespace(stages=maps, stem=stem)])


@pytest.mark.parametrize(("stem", "terms"), [(True, 3), (False, 2)])
def test_the_stem_and_the_first_stage_are_a_pair_too(stem, terms):
    """As in the authors' table: every map but the pooled one, the stem's among them."""
    student = stacked((3, 8, 8), (4, 8, 8), (5, 4, 4), (6, 2, 2))
    teacher = stacked((3, 16, 16), (4, 16, 16), (5, 8, 8), (6, 4, 4))
    term = FSP(stem=stem)
    term.connect(student, teacher)
    s, t = given(student, 0), given(teacher, 20)
    maps = [[x[0].stem, *x[0].stages][3 - terms :] for x in (s, t)]
    neighbours = zip(*map(pairwise, maps), strict=True)
    flows = [reference_fsp(*(x.numpy() for x in (*own, *other))) for own, other in neighbours]
    assert len(flows) == terms
    assert term(s, t, None).item() == pytest.approx(sum(flows))
    assert ("student.stem" in term.needs) == stem


def test_a_fit_reads_the_stem():
    module = distillation("fsp")
    assert module.student.info.stem.name == "relu" and "stem" in module.extractors[0].needs
    loss = module.losses(make_batch(make_images()), ("fsp",))["fsp"]
    assert torch.autograd.grad(loss, module.student.net.conv1.weight)[0].abs().sum() > 0


def test_stems_of_other_channels_are_refused_and_one_that_is_not_there_is_left_out():
    student, teacher = stacked((3, 8, 8), (4, 8, 8), (5, 4, 4)), stacked((2, 8, 8), (4, 8, 8), (5, 4, 4))
    with pytest.raises(UserError, match=r"equal channels before the first stage.*conv1.*strategy\.fsp\.stem=false"):
        FSP().connect(student, teacher)
    FSP(stem=False).connect(student, teacher)
    term = FSP()
    term.connect(student, stacked(None, (4, 8, 8), (5, 4, 4)))
    assert "student.stem" not in term.needs
