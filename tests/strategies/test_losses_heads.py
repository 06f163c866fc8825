"""Losses that read a model's head: class attention, softmax regression, and the teacher's head on the student's map."""

import copy
import pickle

import numpy as np
import pytest
import torch
import yaml
from helpers.loss_checks import CHECKS, Case, draw
from torch import nn

from distillab import Distillation, functional
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.data.images.image_batch import ImageBatch
from distillab.evaluation.efficiency import measure, parameters
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.models.image_model import ImageModel
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.models.zoo.mobilenet_v2 import MobileNetV2
from distillab.models.zoo.shufflenet_v2 import ShuffleNetV2
from distillab.strategies.cat import ClassAttention
from distillab.strategies.simkd import SimKD
from distillab.strategies.srrl import SRRL

SHAPE = (1, 8, 8)


def reference_class_attention(A_s, A_t, resolution, normalize):
    """Map by map, cell by cell."""
    total, count = 0.0, 0
    for maps in zip(A_s.reshape(-1, *A_s.shape[2:]), A_t.reshape(-1, *A_t.shape[2:]), strict=True):
        cells = []
        for one in maps:
            block = one.shape[0] // resolution
            places = np.ndindex(resolution, resolution)
            means = [one[r * block : (r + 1) * block, c * block : (c + 1) * block].mean() for r, c in places]
            length = np.sqrt(sum(m**2 for m in means)) if normalize else 1.0
            cells.append([m / length for m in means])
        total += sum((a - b) ** 2 for a, b in zip(*cells, strict=True))
        count += resolution**2
    return total / count


CASES = {
    "class_attention": [
        Case(
            reference_class_attention,
            student={"A_s": draw(2, 3, 4, 4)},
            teacher={"A_t": draw(2, 3, 8, 8, seed=1)},
            rest={"resolution": resolution, "normalize": normalize},
        )
        for resolution, normalize in ((2, True), (2, False), (4, False), (1, False))
    ],
}
MUTATIONS = [
    ("class_attention", "F.mse_loss(unit(A_s), unit(A_t))", "F.mse_loss(A_s, A_t)", "not normalised"),
    ("class_attention", "flatten(2)", "flatten(1)", "one norm for all classes"),
    ("class_attention", "if normalize else F.mse_loss(A_s, A_t)", "", "always normalised"),
    ("class_attention", "A_t.detach()", "A_t", "a gradient to the teacher"),
]
TERMS = {
    "SRRL": lambda: test_srrl_is_the_error_of_embedding_and_logits(small),
    "SimKD": lambda: test_simkd_ships_projector_and_teachers_head(small),
}
TERM_MUTATIONS = [
    ("SRRL", "F.linear(embedding, teacher.head.weight, teacher.head.bias)", "F.linear(embedding, teacher.head.weight)", "no bias"),
    ("SRRL", "hint(embedding, teacher.embedding) +", "", "the logits alone"),
    ("SimKD", "self.head(self.projector(features).mean((2, 3)))", "self.head(self.projector(features).amax((2, 3)))", "maxima"),
    ("SimKD", "if call.leaf and", "if False and", "what lies behind the last stage shipped too"),
]  # fmt: skip
EVERY_CASE = [(name, case, check) for name, cases in CASES.items() for case in cases for check in CHECKS]


@pytest.mark.parametrize(("name", "case", "check"), EVERY_CASE, ids=lambda x: getattr(x, "__name__", str(x)[:20]))
def test_loss(name, case, check):
    check(getattr(functional, name), case)


def test_a_class_that_is_seen_nowhere_has_a_finite_gradient():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    functional.class_attention(maps, torch.ones(2, 3, 4, 4)).backward()
    assert torch.isfinite(maps.grad).all() and maps.grad.abs().max() < 1e3


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="A_s and A_t must be"):
        functional.class_attention(draw(2, 3), draw(2, 3))
    with pytest.raises(UserError, match="A_s and A_t must have a map for each class"):
        functional.class_attention(draw(2, 3, 4, 4), draw(2, 4, 4, 4))
    with pytest.raises(UserError, match="resolution must be a whole number from 1, got 0"):
        functional.class_attention(draw(2, 3, 4, 4), draw(2, 3, 4, 4), resolution=0)


def small(seed=0, depth=8):
    """A network, for who has no fixture."""
    torch.manual_seed(seed)
    return CifarResNet(depth, num_classes=10, in_channels=1)


def distillation(name, network, teacher=None):
    parts = yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())
    return Distillation(network(), teacher or network(seed=1, depth=14), parts, input_shape=SHAPE)


def batch(size=8):
    images = torch.rand(size, *SHAPE, generator=torch.Generator().manual_seed(0))
    return ImageBatch.of([images], torch.arange(size), torch.arange(size))


@pytest.mark.parametrize(("name", "part"), [("cat", "head"), ("srrl", "connector"), ("simkd", "projector")])
def test_what_a_term_trains(name, part, network):
    module = distillation(name, network)
    loss = module.losses(batch(), (name,))[name]
    own = module.student.net.fc.weight if part == "head" else getattr(module.strategy.terms[name], part).parameters()
    own = [own] if part == "head" else list(own)
    for parameters_ in (list(module.student.net.layer1.parameters()), own):
        gradients = torch.autograd.grad(loss, parameters_, retain_graph=True)
        assert all(torch.isfinite(g).all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0
    assert not any(p.requires_grad for p in module.teacher.parameters())


def test_class_maps_pool_to_the_logits(network):
    """At one cell, unnormalised, class attention is the error of the logits without their biases."""
    module = distillation("cat", network)
    term, images = module.strategy.terms["cat"], batch().pixels[0]
    term.resolution = 1
    module.eval()
    loss = module.losses(batch(), ("cat",))["cat"]
    logits = [m(images) - m.net.fc.bias for m in (module.student, module.teacher.model)]
    assert loss.item() == pytest.approx(15 * (logits[0] - logits[1]).square().mean().item(), rel=1e-4)


def test_srrl_is_the_error_of_embedding_and_logits(network):
    module = distillation("srrl", network).eval()
    term = module.strategy.terms["srrl"]
    read, images = {}, batch().pixels[0]
    term.connector.register_forward_hook(lambda _, __, output: read.update(map=output))
    loss = module.losses(batch(), ("srrl",))["srrl"]
    with torch.no_grad():
        teacher, embedding = module.teacher.model.net, read["map"].mean((2, 3))
        true = nn.Sequential(teacher.conv1, teacher.bn1, teacher.relu, teacher.layer1, teacher.layer2, teacher.layer3)(
            images
        ).mean((2, 3))
        expected = (embedding - true).square().mean() + (teacher.fc(embedding) - teacher.fc(true)).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_simkd_ships_projector_and_teachers_head(network):
    module = distillation("simkd", network)
    module.losses(batch(), ("simkd",))  # in training, so that running statistics move
    module.eval()
    images, deployed = batch().pixels[0], module.deployed().eval()
    student, teacher = module.student, module.teacher.model
    projector = module.strategy.terms["simkd"].projector
    with torch.no_grad():
        logits = deployed(images)
        maps = module.extractors[0](pixels=images).stages[-1]
        torch.testing.assert_close(logits, teacher.net.fc(projector(maps).mean((2, 3))))
    counted = parameters(student) - parameters(student.net.fc) + parameters(projector) + parameters(teacher.net.fc)
    assert parameters(deployed) == counted == measure(deployed)["parameters"]
    kept = {key for key, _ in student.named_parameters() if not key.startswith("net.fc")}
    assert kept == {key.removeprefix("student.") for key, _ in deployed.student.named_parameters(prefix="student")}


@pytest.mark.parametrize(("build", "stages"), [(MobileNetV2, 4), (ShuffleNetV2, 3)])
def test_simkd_ships_no_layer_behind_the_last_stage(build, stages, network):
    """Their `final` convolution would be run, counted and exported, and nobody would have trained it."""
    terms = yaml.safe_load((conf_dir() / "strategy" / "simkd.yaml").read_text())
    names = [f"layer{number}" for number in range(1, stages + 1)]
    student = ImageModel(build(num_classes=10, in_channels=1), SHAPE, stages=names)
    deployed = Distillation(student, network(seed=1, depth=14), terms, input_shape=SHAPE).deployed().train()
    deployed(batch().pixels[0]).sum().backward()
    idle = [key for key, p in deployed.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == [] and any(p.grad is not None for p in student.parameters())


def test_what_simkd_ships_follows_the_student_and_can_be_copied_and_kept(network):
    module = distillation("simkd", network).eval()
    images, deployed = batch().pixels[0], module.deployed().eval()
    with torch.no_grad():
        module.student.net.conv1.weight.mul_(2)
        module.student.net.bn1.running_mean.add_(1)
        logits = module.deployed()(images)
        assert torch.equal(deployed(images), logits)
        for other in (pickle.loads(pickle.dumps(deployed)), copy.deepcopy(deployed)):
            assert torch.equal(other(images), logits)
        fresh = distillation("simkd", lambda seed=7, depth=8: network(seed, depth)).eval().deployed().eval()
        fresh.load_state_dict(deployed.state_dict(), strict=True)
        assert torch.equal(fresh(images), logits)
        module.student(images)  # reading the student goes on as before
        assert module.extractors[0](pixels=images).stages[-1].shape == (8, 64, 2, 2)


def test_a_teachers_class_order_is_followed(network):
    """A teacher whose outputs stand in another order ships the same classes, and has the same class maps."""
    plain, order = network(seed=1, depth=14), list(range(9, -1, -1))
    turned = copy.deepcopy(plain)
    turned.fc.weight.data, turned.fc.bias.data = plain.fc.weight.data[order], plain.fc.bias.data[order]
    turned = ImageModel(turned, SHAPE, class_order=order)
    modules = {
        name: [distillation(name, network, copy.deepcopy(t)).eval() for t in (plain, turned)]
        for name in ("simkd", "cat", "srrl")
    }
    images = batch().pixels[0]
    torch.testing.assert_close(*(module.deployed()(images) for module in modules["simkd"]))
    for name, pair in modules.items():
        torch.testing.assert_close(*(module.losses(batch(), (name,))[name] for module in pair))


class MaxPooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.layer1(x).amax((2, 3)))


def test_refusals_speak(network):
    narrow = FeatureInfo("narrow", (Stage("layer1", 8, 4, 4),), 16, 10, "fc")
    headless = FeatureInfo("headless", (Stage("layer1", 8, 4, 4),), None, 10, None)
    for term in (SimKD(), ClassAttention()):
        with pytest.raises(UserError, match="the head of narrow does not read the mean of its last map"):
            term.connect(narrow, narrow)
    with pytest.raises(UserError, match=r"headless has no linear head.*teacher\.head="):
        SRRL().connect(narrow, headless)
    for name in ("simkd", "cat"):  # the widths agree, but the head reads maxima
        with pytest.raises(UserError, match="MaxPooled does not read the mean"):
            distillation(name, network, ImageModel(MaxPooled(), SHAPE, stages=["layer1"])).eval().losses(
                batch(), (name,)
            )
    for wrong, make in (("factor", lambda: SimKD(factor=0)), ("resolution", lambda: ClassAttention(resolution=0.5))):
        with pytest.raises(UserError, match=f"{wrong} must be a whole number from 1"):
            make()
    even = FeatureInfo("even", (Stage("layer1", 8, 4, 4),), 8, 10, "fc")
    with pytest.raises(UserError, match="factor must leave a channel"):
        SimKD(factor=9).connect(even, even)
    with pytest.raises(UserError, match="scheme=offline"):
        SimKD().deploy(nn.Identity(), nn.Identity())
