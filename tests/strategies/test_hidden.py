"""The error of hidden states at the positions that count (hidden)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.model_outputs import info, outputs
from helpers.numbers import draw

from distillab import functional
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.strategies.hidden import Hidden

STATES = {"student": {"s": draw(2, 4, 3)}, "teacher": {"t": draw(2, 4, 3, seed=1)}}
MASK = torch.tensor([[True, True, False, True], [False, True, False, False]])
TEXTS = info((6, 1, 4), (6, 1, 4)), info((6, 1, 4), (5, 1, 4), (8, 1, 4), (9, 1, 4))


def reference(s, t, mask=None, relative=False):
    """Number by number."""
    kept = [i for i in np.ndindex(s.shape) if mask is None or mask[i[:2]]]
    scale = {i: sum(x**2 for x in t[i]) / len(t[i]) if relative else 1 for i in np.ndindex(s.shape[:2])}
    return sum((s[i] - t[i]) ** 2 / scale[i[:2]] for i in kept) / len(kept)


class TestHidden(MethodTester):
    configs = ("hidden",)
    cases = {
        "hidden_mse": [
            Case(reference, **STATES),
            Case(reference, **STATES, rest={"mask": MASK}, rows=False),
            Case(reference, **STATES, rest={"relative": True}),
        ]
    }
    mutations = [
        ("hidden_mse", "s, t = widened(s, t)", "s, t = widened(s, t)[0], t", "a gradient to the teacher"),
        ("hidden_mse", "(s - t).square()", "(s - t).abs()", "absolute, not squared"),
        ("hidden_mse", "positions(x, mask) for", "positions(x, None) for", "all positions"),
        ("hidden_mse", "squares / t.square()", "squares / s.square()", "in the student's mean square"),
    ]


def text_term():
    """A term of two texts' models, with what it reads: four positions in a batch of two."""
    torch.manual_seed(0)
    term = Hidden()
    term.connect(*TEXTS)
    student, teacher = (outputs(model, seed, 2) for seed, model in enumerate(TEXTS))
    labels = torch.where(MASK, 3, IGNORED)
    return term, student, teacher, SimpleNamespace(labels=labels)


def test_layers_are_paired_by_depth_and_only_unequal_widths_have_a_layer():
    term = text_term()[0]
    assert term.pairs == [(0, 1), (1, 3)]
    assert {name: tuple(p.shape) for name, p in term.named_parameters()} == {
        "connectors.0.weight": (5, 6),
        "connectors.1.weight": (9, 6),
    }
    same = Hidden()
    same.connect(TEXTS[0], TEXTS[0])
    assert not list(same.parameters())


def test_the_term_is_the_sum_over_pairs_of_positions_that_have_a_label():
    term, student, teacher, batch = text_term()
    expected = 0.0
    for connector, (i, j) in zip(term.connectors, term.pairs, strict=True):
        s, t = (x.detach()[:, :, 0].movedim(1, 2)[MASK] for x in (student.stages[i], teacher.stages[j]))
        expected += ((s @ connector.weight.T - t) ** 2).mean().item()
    loss = term(student, teacher, batch)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    ignored = student.stages[0].grad[:, :, 0].movedim(1, 2)[~MASK]
    assert not ignored.any() and all(x.grad is None for x in teacher.stages)


def test_what_an_ignored_position_holds_does_not_matter():
    term, student, teacher, batch = text_term()
    first = term(student, teacher, batch)
    for model in (student, teacher):
        spoiled = [x.detach().clone() for x in model.stages]
        for x in spoiled:
            x[:, :, 0].movedim(1, 2)[~MASK] = torch.nan
        model[0] = SimpleNamespace(stages=[x.requires_grad_() for x in spoiled])
    value = term(student, teacher, batch)
    value.backward()
    assert value == first and all(torch.isfinite(p.grad).all() for p in term.parameters())


def test_no_position_that_counts_gives_zero_and_no_gradient():
    s = draw(2, 4, 3).requires_grad_()
    value = functional.hidden_mse(s, draw(2, 4, 3, seed=1), torch.zeros(2, 4, dtype=torch.bool))
    value.backward()
    assert value == 0 and not s.grad.any()


@pytest.mark.parametrize("labels", [torch.zeros(2, dtype=torch.long), torch.rand(2, 4)])
def test_of_images_every_place_counts(labels):
    term, student, teacher, _ = text_term()
    whole = SimpleNamespace(labels=torch.zeros(2, 4, dtype=torch.long))
    value = term(student, teacher, SimpleNamespace(labels=labels)).item()
    assert value == pytest.approx(term(student, teacher, whole).item(), rel=1e-6)


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(UserError, match=r"place by place, and layer0 \(4×8×8\) and layer0 \(5×16×16\) differ"):
        Hidden().connect(info((4, 8, 8)), info((5, 16, 16)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t": draw(2, 4, 5)}, "s and t must be states"),
        ({"s": draw(2, 4), "t": draw(2, 4)}, "s and t must be states"),
        ({"mask": MASK.long()}, r"mask must be bool \(2, 4\)"),
        ({"mask": MASK[:1]}, r"mask must be bool \(2, 4\)"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        functional.hidden_mse(**{"s": draw(2, 4, 3), "t": draw(2, 4, 3)} | arguments)
