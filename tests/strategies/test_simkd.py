"""The teacher's head on the student's map, which is shipped too (simkd)."""

import copy
import pickle

import pytest
import torch
from helpers.fits import SHAPE, assert_learns, distillation, make_batch, make_images, ordered_teachers, small
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from torch import nn

from distillab.core.errors import UserError
from distillab.evaluation.efficiency import measure, parameters
from distillab.models.image_model import ImageModel
from distillab.models.zoo.mobilenet_v2 import MobileNetV2
from distillab.models.zoo.shufflenet_v2 import ShuffleNetV2
from distillab.strategies.simkd import SimKD


class TestSimKD(MethodTester):
    configs = ("simkd",)
    by_hand = {"SimKD": lambda: test_simkd_ships_projector_and_teachers_head()}
    hand_mutations = [
        (
            "SimKD",
            "self.head(self.projector(features).mean((2, 3)))",
            "self.head(self.projector(features).amax((2, 3)))",
            "maxima",
        ),
        ("SimKD", "if call.leaf and", "if False and", "what lies behind the last stage shipped too"),
    ]


def test_what_the_term_trains():
    assert_learns("simkd", lambda module: module.strategy.terms["simkd"].projector.parameters())


def test_simkd_ships_projector_and_teachers_head():
    module = distillation("simkd")
    module.losses(make_batch(make_images()), ("simkd",))  # in training, so that running statistics move
    module.eval()
    images, deployed = make_images(), module.deployed().eval()
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
def test_simkd_ships_no_layer_behind_the_last_stage(build, stages):
    """Their `final` convolution would be run, counted and exported, and nobody would have trained it."""
    names = [f"layer{number}" for number in range(1, stages + 1)]
    student = ImageModel(build(num_classes=10, in_channels=1), SHAPE, stages=names)
    deployed = distillation("simkd", student).deployed().train()
    deployed(make_images()).sum().backward()
    idle = [key for key, p in deployed.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == [] and any(p.grad is not None for p in student.parameters())


def test_what_simkd_ships_follows_the_student_and_can_be_copied_and_kept():
    module = distillation("simkd").eval()
    images, deployed = make_images(), module.deployed().eval()
    with torch.no_grad():
        module.student.net.conv1.weight.mul_(2)
        module.student.net.bn1.running_mean.add_(1)
        logits = module.deployed()(images)
        assert torch.equal(deployed(images), logits)
        for other in (pickle.loads(pickle.dumps(deployed)), copy.deepcopy(deployed)):  # noqa: S301 - its own
            assert torch.equal(other(images), logits)
        fresh = distillation("simkd", small(7)).eval().deployed().eval()
        fresh.load_state_dict(deployed.state_dict(), strict=True)
        assert torch.equal(fresh(images), logits)
        module.student(images)  # reading the student goes on as before
        assert module.extractors[0](pixels=images).stages[-1].shape == (8, 64, 2, 2)


def test_a_teachers_class_order_is_followed():
    """A teacher whose outputs stand in another order ships the same classes."""
    pair = [distillation("simkd", teacher=teacher).eval() for teacher in ordered_teachers()]
    torch.testing.assert_close(*(module.losses(make_batch(make_images()), ("simkd",))["simkd"] for module in pair))
    torch.testing.assert_close(*(module.deployed()(make_images()) for module in pair))


def test_refusals_speak():
    with pytest.raises(UserError, match="factor must be a whole number from 1"):
        SimKD(factor=0)
    even = info((8, 4, 4), embedding=8, name="even")
    with pytest.raises(UserError, match="factor must leave a channel"):
        SimKD(factor=9).connect(even, even)
    with pytest.raises(UserError, match="scheme=offline"):
        SimKD().deploy(nn.Identity(), nn.Identity())
