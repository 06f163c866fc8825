"""Logits of parts of the image (sdd)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.method_tester import MethodTester
from helpers.model_outputs import info, kd_of_row
from helpers.numbers import draw
from torch import nn

from distillab.core.errors import UserError
from distillab.strategies.base import Outputs
from distillab.strategies.sdd import ScaleDecoupledKD


class TestSDD(MethodTester):
    configs = ("sdd",)
    by_hand = {"ScaleDecoupledKD": lambda: test_cells_by_hand()}
    hand_mutations = [
        (
            "ScaleDecoupledKD",
            "1 + (cell_right != whole_right",
            "1 + (cell_right == whole_right",
            "agreement counts twice",
        ),
        ("ScaleDecoupledKD", "(counts.flatten() * rows).mean()", "rows.mean()", "every cell once"),
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ScaleDecoupledKD(grids=[0]), "grids must"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


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
    plain, other = (info((4, 4, 4), embedding=n, classes=3, name=name) for n, name in ((4, "plain"), (9, "wide")))
    with pytest.raises(UserError, match="the head of wide does not read"):
        ScaleDecoupledKD().connect(plain, other)
    term = ScaleDecoupledKD().eval()
    term.connect(plain, plain)
    student, batch = image_model(4, 0), SimpleNamespace(labels=torch.zeros(5, dtype=torch.int64))
    shuffled = SimpleNamespace(**vars(image_model(4, 1)) | {"logits": torch.zeros(5, 3).double()})
    with pytest.raises(UserError, match="the head of plain does not read"):
        term(Outputs([student]), Outputs([shuffled]), batch)
