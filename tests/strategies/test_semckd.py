"""Attention over pairs of stages (semckd)."""

import pytest
import torch
from helpers.method_tester import MethodTester
from helpers.model_outputs import LARGE, SMALL, check_connectors_train, outputs

from distillab.core.errors import UserError
from distillab.strategies.semckd import SemCKD


class TestSemCKD(MethodTester):
    configs = ("semckd",)
    by_hand = {"SemCKD": lambda: test_semckd_weighs_pair_by_pair()}
    hand_mutations = [
        (
            "SemCKD",
            "inner(queries, keys).softmax(-1)",
            "inner(queries, keys).softmax(1)",
            "shares of the student's stages",
        ),
        ("SemCKD", "(attention * errors).sum(-1)", "errors.mean(-1)", "no attention"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: SemCKD(batch_size=2), "batch_size must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


@pytest.mark.parametrize("batch", [1, 5, 16, 21])
def test_connectors_train_on_maps_of_other_sizes_and_any_batch(batch):
    check_connectors_train(SemCKD(batch_size=16), batch)


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
