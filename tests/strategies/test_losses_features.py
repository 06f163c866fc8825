"""Losses over maps with connectors between them: activation boundaries, factor transfer, partial L2 before the ReLU."""

import math
from itertools import pairwise
from statistics import NormalDist

import lightning as L
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
from distillab.strategies.ft import FactorTransfer
from distillab.strategies.ofd import OFD, norm_margin
from distillab.strategies.strategy import Strategy

SHAPE = (1, 8, 8)


def reference_activation_boundary(F_s, F_t, margin):
    """Unit by unit."""
    total = 0.0
    for s, t in zip(F_s.ravel(), F_t.ravel(), strict=True):
        if t > 0 and s < margin:
            total += (s - margin) ** 2
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total / len(F_s)


def reference_margin(weight, bias):
    """Channel by channel, the tail mean of a normal distribution."""
    normal, margins = NormalDist(), []
    for sigma, mu in zip(np.abs(weight), bias, strict=True):
        below = normal.cdf(-mu / sigma)
        margins.append(mu - sigma * normal.pdf(mu / sigma) / below if below > 0.001 else -3 * sigma)
    return np.array(margins)


def reference_ofd(F_s, F_t, margin):
    """Unit by unit."""
    total = 0.0
    for s, t in zip(F_s, F_t, strict=True):
        for place in np.ndindex(s.shape):
            goal = max(t[place], margin[place[0]])
            if s[place] > goal or goal > 0:
                total += (s[place] - goal) ** 2
    return total / len(F_s)


def reference_factor(x):
    """Sample by sample."""
    rows = np.array([(one**2).mean(0).ravel() for one in x])
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


def reference_factor_transfer(F_s, F_t):
    side = min(F_s.shape[-1], F_t.shape[-1])
    pooled = [
        x.reshape(*x.shape[:2], side, x.shape[-1] // side, side, x.shape[-1] // side).mean((3, 5)) for x in (F_s, F_t)
    ]
    return float(np.abs(reference_factor(pooled[0]) - reference_factor(pooled[1])).mean())


PAIR = {"student": {"F_s": draw(3, 4, 2, 2)}, "teacher": {"F_t": draw(3, 4, 2, 2, seed=1)}}
NORM = {"weight": draw(4, seed=2), "bias": torch.tensor([0.2, -0.5, 9.0, 0.0]).double()}
CASES = {
    "activation_boundary": [
        Case(reference_activation_boundary, **PAIR, rest={"margin": 1.0}),
        Case(reference_activation_boundary, {"F_s": draw(3, 5)}, {"F_t": draw(3, 5, seed=1)}, {"margin": 0.3}),
    ],
    "ofd": [
        Case(reference_ofd, PAIR["student"], PAIR["teacher"] | {"margin": -draw(4, seed=2).abs()}),
        Case(reference_ofd, PAIR["student"], PAIR["teacher"] | {"margin": torch.zeros(4).double()}),
    ],
    "ofd_margin": [
        Case(
            lambda F_s, F_t, weight, bias: reference_ofd(F_s, F_t, reference_margin(weight, bias)),
            student={"F_s": 3 * draw(9, 4, 3, 3)},
            teacher={"F_t": 3 * draw(9, 4, 3, 3, seed=1) - 2, **NORM},
        )
    ],
    "ft_factor": [Case(lambda F: float((reference_factor(F) ** 3).sum()), student={"F": draw(3, 4, 2, 2)}, teacher={})],
    "factor_transfer": [
        Case(reference_factor_transfer, student={"F_s": draw(2, 3, s, s)}, teacher={"F_t": draw(2, 5, t, t, seed=1)})
        for s, t in ((4, 4), (4, 2), (2, 4))
    ],
}
# A function that gives no scalar is checked by what it is used for.
COMPOSED = {
    "ofd_margin": lambda F_s, F_t, weight, bias: functional.ofd(F_s, F_t, functional.ofd_margin(weight, bias)),
    "ft_factor": lambda F: functional.ft_factor(F).pow(3).sum(),
}
MUTATIONS = [
    ("activation_boundary", ".sum(1).mean()", ".mean()", "mean over the units"),
    ("activation_boundary", "margin - F_s, margin + F_s", "margin + F_s, margin - F_s", "on and off exchanged"),
    ("activation_boundary", "F.relu(short).square()", "F.relu(short)", "a hinge that is not squared"),
    ("activation_boundary", "F_t > 0", "F_t > margin", "on from the margin"),
    ("ofd", "(F_s > goal) | (goal > 0)", "(F_s > F_t) | (F_t > 0)", "no margin where it counts"),
    ("ofd", "torch.where(counts, F_s - goal, 0)", "(F_s - goal)", "every unit counts"),
    ("ofd", "torch.maximum(F_t, ", "torch.minimum(F_t, ", "the smaller of map and margin"),
    ("ofd", ".sum(1).mean()", ".mean()", "mean over the units"),
    ("ofd", "F_t.detach()", "F_t", "a gradient to the teacher"),
    ("ofd_margin", "mean - deviation * density", "mean + deviation * density", "a lost sign"),
    ("ofd_margin", "-3 * deviation", "0 * deviation", "no floor for a channel that is rarely negative"),
    ("ofd_margin", "ndtr(-z)", "ndtr(z)", "the other tail"),
    ("ft_factor", "F.square().mean(1)", "F.mean(1).square()", "the square after the mean"),
    ("ft_factor", "squares.square().sum(1", "squares.sum(1", "the L1 norm's root"),
    ("factor_transfer", ".abs().mean()", ".abs().sum()", "a sum"),
    ("factor_transfer", ".abs().mean()", ".square().mean()", "squared differences"),
    ("factor_transfer", "F_t.detach()", "F_t", "a gradient to the teacher"),
]
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(COMPOSED.get(name) or getattr(functional, name), case)


@pytest.mark.parametrize("name", ["activation_boundary", "factor_transfer"])
def test_shapes_that_differ_are_refused(name):
    with pytest.raises(UserError, match="F_s and F_t must be"):
        getattr(functional, name)(draw(2, 3, 4, 4), draw(3, 3, 4, 4))


def test_margins_and_maps_that_do_not_go_together_are_refused():
    F_s, F_t = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for function in (functional.activation_boundary, lambda a, b: functional.ofd(a, b, draw(3))):
        with pytest.raises(UserError, match="F_s and F_t must have one shape"):
            function(F_s, F_t[:, :2])
    with pytest.raises(UserError, match="margin must be"):
        functional.ofd(F_s, F_t, draw(2))
    with pytest.raises(UserError, match="weight and bias must be"):
        functional.ofd_margin(draw(3), draw(2))
    with pytest.raises(UserError, match="F must be"):
        functional.ft_factor(draw(2, 3))


def test_hand_made_margins():
    margin = functional.ofd_margin(torch.tensor([1.0, -1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 8.0, -0.5, 0.5]))
    expected = [-math.sqrt(2 / math.pi), -math.sqrt(2 / math.pi), -6.0, -0.5, 0.0]  # constant channels last
    torch.testing.assert_close(margin, torch.tensor(expected))
    plain = norm_margin(torch.nn.BatchNorm2d(2, affine=False))
    torch.testing.assert_close(plain, torch.full((2,), expected[0]))


def test_hand_made_boundaries_and_factors():
    assert functional.activation_boundary(torch.tensor([[2.0, -2.0]]), torch.tensor([[0.1, 0.0]])).item() == 0
    assert functional.activation_boundary(torch.zeros(1, 6), torch.randn(1, 6)).item() == 6
    torch.testing.assert_close(
        functional.ft_factor(torch.tensor([[[[3.0, 0.0]], [[-3.0, 0.0]]]])), torch.tensor([[1.0, 0.0]])
    )
    zeros = torch.zeros(2, 3, 4, 4, requires_grad=True)
    functional.factor_transfer(zeros, torch.ones(2, 3, 4, 4)).backward()
    assert torch.isfinite(zeros.grad).all()


def parts(name):
    return yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["ab", "ofd", "ft"])
def test_student_and_connectors_learn(name, network):
    module = Distillation(network(), network(seed=1, depth=14), parts(name), input_shape=SHAPE)
    batch = ImageBatch.of([torch.rand(8, *SHAPE)], torch.arange(8), torch.arange(8))
    loss = module.losses(batch, (name,))[name]
    assert loss > 0
    own = [p for key, p in module.strategy.terms[name].named_parameters() if "connectors" in key or "translator" in key]
    for parameters in (list(module.student.net.layer1.parameters()), own):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        assert all(torch.isfinite(g).all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0
    connectors = getattr(module.strategy.terms[name], "connectors", [])
    assert all(len(connector.connect) == 2 for connector in connectors)  # no ReLU


def test_stages_weigh_half_of_the_next(network):
    module = Distillation(network(), network(seed=1), parts("ab"), input_shape=SHAPE)
    term = module.strategy.terms["ab"].eval()
    images = torch.rand(4, *SHAPE)
    module.student.eval()
    batch = ImageBatch.of([images], torch.arange(4), torch.arange(4))
    losses = module.losses(batch, ("ab",))
    outputs = [module.extractors[0](**batch.inputs[0]), module.teacher(batch)[0]]
    each = [
        functional.activation_boundary(connect(s), t)
        for connect, s, t in zip(term.connectors, *(o.preactivations for o in outputs), strict=True)
    ]
    assert losses["ab"].item() == pytest.approx(0.003 * (each[0] / 4 + each[1] / 2 + each[2]).item(), rel=1e-5)


def test_the_paraphraser_learns_first_without_the_student_and_is_saved_once(network):
    module = Distillation(network(), network(seed=1, depth=14), parts("ft"), input_shape=SHAPE)
    batch = ImageBatch.of([torch.rand(8, *SHAPE)], torch.arange(8), torch.arange(8))
    losses, terms = module.losses(batch, ("paraphraser", "ft")), module.strategy.terms
    inside, student = list(terms["paraphraser"].parameters()), list(module.student.parameters())
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["paraphraser"], inside, retain_graph=True))
    assert not any(g is not None for g in torch.autograd.grad(losses["paraphraser"], student, allow_unused=True))
    assert not any(g is not None for g in torch.autograd.grad(losses["ft"], inside, allow_unused=True))
    assert not [key for key in terms["ft"].state_dict() if not key.startswith("translator")]
    kinds = {role: {type(m).__name__ for m in terms[role].modules()} for role in ("paraphraser", "ft")}
    assert "BatchNorm2d" in kinds["ft"] and "BatchNorm2d" not in kinds["paraphraser"]
    assert terms["paraphraser"].encoder[-2].out_channels == 32  # half of 64


def test_a_fit_moves_the_paraphraser_alone_and_then_all_but_it(digits, network):
    module = Distillation(network(), network(seed=1, depth=14), parts("ft"), input_shape=SHAPE)
    states = [{key: value.clone() for key, value in module.state_dict().items()}]

    class Keep(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            states.append({key: value.clone() for key, value in module.state_dict().items()})

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    engine = L.Trainer(
        max_epochs=2, use_distributed_sampler=False, enable_model_summary=False, callbacks=Keep(), **quiet
    )
    engine.fit(module, datamodule=digits.configure(64, 0))
    first, second = ({key for key in a if not torch.equal(a[key], b[key])} for a, b in pairwise(states))
    paraphraser = {key for key in states[0] if key.startswith("strategy.terms.paraphraser.")}
    assert first == paraphraser  # not even the student's BatchNorm statistics
    assert {"student.net.conv1.weight", "strategy.terms.ft.translator.0.weight"} <= second
    assert not second & paraphraser


def test_refusals_speak():
    student = FeatureInfo("small", (Stage("layer1", 8, 4, 4),), 8, 10, "fc")
    with pytest.raises(UserError, match=r"BatchNorm.*small has none in layer1.*reviewkd"):
        OFD().connect(student, student)
    with pytest.raises(UserError, match=r"strategy\.ft: .*needs a paraphraser.*strategy=ft"):
        Strategy.of({"ft": FactorTransfer()}).connect(student, student, 0)
    point = FeatureInfo("point", (Stage("layer1", 8, 1, 1),), 8, 10, "fc")
    for pair in ((student, point), (point, student)):
        with pytest.raises(UserError, match=r"strategy\.ft: a factor of one pixel.*point ends in layer1 \(8×1×1\)"):
            Strategy.of(parts("ft")).connect(*pair, 0)
    with pytest.raises(UserError, match="rate must leave a channel"):
        Strategy.of(parts("ft") | {"paraphraser": parts("ft")["paraphraser"] | {"rate": 0.1}}).connect(
            student, student, 0
        )
