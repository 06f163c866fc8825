"""A token that learns the teacher's first class (deit)."""

import math

import pytest
import torch
import yaml
from helpers.fits import SHAPE, distillation, make_batch, make_images, small, strategy
from helpers.method_checks import Case
from helpers.method_tester import LOGITS, MethodTester
from helpers.numbers import draw, softmax
from helpers.two_tokens import two_tokens
from torch import nn
from torch.nn import functional as F

from distillab import Distillation, functional
from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.models.build import build_model
from distillab.models.image_model import ImageModel
from distillab.models.timm import passed_on
from distillab.strategies.deit import ClassToken, DistillationToken  # noqa: F401 - slips are written into them

BOTH = ("ce", "deit")


def first_class(s, t):
    """Row by row: −log of the probability of the teacher's largest."""
    return -sum(math.log(softmax(a)[max(range(len(b)), key=b.__getitem__)]) for a, b in zip(s, t, strict=True)) / len(s)


class TestDeiT(MethodTester):
    configs = ("deit",)
    cases = {"hard_distillation": [Case(first_class, **LOGITS, extreme=True)]}
    mutations = [
        ("hard_distillation", "t.argmax(-1)", "s.argmax(-1)", "the student's own first class"),
        ("hard_distillation", "t.argmax(-1)", "t.softmax(-1)", "soft labels"),
        ("hard_distillation", "t.argmax(-1)", "t.argmin(-1)", "the least likely class"),
    ]
    by_hand = {
        "ClassToken": lambda: test_each_token_learns_its_own(),
        "DistillationToken": lambda: test_each_token_learns_its_own(),
    }
    hand_mutations = [
        ("ClassToken", "token_logits[0], None", "token_logits[1], None", "the other token"),
        ("DistillationToken", "token_logits[1], teacher", "token_logits[0], teacher", "the other token"),
    ]


def losses(student, teacher, batch, parts=None):
    return distillation(parts or "deit", student, teacher).losses(batch, BOTH)


def test_each_token_learns_its_own():
    """Half of the class token's cross-entropy with the labels, half of the other's with the teacher's first class."""
    student, teacher, batch = two_tokens(), small(1, 14), make_batch(make_images())
    found = losses(student, teacher, batch)
    of_class, of_distillation = student.heads(make_images())
    first = teacher.eval()(make_images()).argmax(1)
    assert found["ce"].item() == pytest.approx(F.cross_entropy(of_class, batch.labels).item() / 2, rel=1e-5)
    assert found["deit"].item() == pytest.approx(F.cross_entropy(of_distillation, first).item() / 2, rel=1e-5)
    for key, own, other in (("ce", student.head, student.head_dist), ("deit", student.head_dist, student.head)):
        gradients = torch.autograd.grad(found[key], [own.weight, other.weight], retain_graph=True, allow_unused=True)
        assert gradients[0].abs().sum() > 0 and gradients[1] is None


def test_the_mean_of_both_tokens_is_what_is_judged_and_shipped():
    student = two_tokens()
    module = distillation("deit", student).eval()
    assert module.deployed() is module.student
    assert torch.equal(module(make_images()), sum(student.heads(make_images())) / 2)


def test_mixed_samples_have_shares_of_classes_as_labels():
    batch, student = make_batch(make_images()), two_tokens()
    batch.targets["labels"] = torch.rand(8, 10).softmax(1)
    Distillation(two_tokens(), small(1), strategy("deit"), input_shape=SHAPE).strategy.check_mixed(True)
    expected = F.cross_entropy(student.heads(make_images())[0], batch.labels) / 2
    assert losses(student, small(1, 14), batch)["ce"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_tokens_give_their_logits_in_the_datas_order_of_classes():
    turned = list(range(9, -1, -1))
    plain, other = two_tokens(), two_tokens()
    for head in (other.head, other.head_dist):
        head.weight.data, head.bias.data = head.weight.data[turned], head.bias.data[turned]
    teacher, batch = small(1, 14), make_batch(make_images())
    expected = losses(ImageModel(plain, SHAPE), teacher, batch)
    found = losses(ImageModel(other, SHAPE, class_order=turned), teacher, batch)
    torch.testing.assert_close(found, expected)


def test_the_classes_may_weigh_differently():
    parts = strategy("deit")
    parts["ce"]["class_weights"] = [2.0] + [1.0] * 9
    student, batch = two_tokens(), make_batch(make_images())
    weights = torch.tensor(parts["ce"]["class_weights"])
    expected = F.cross_entropy(student.heads(make_images())[0], batch.labels, weights) / 2
    assert losses(student, small(1, 14), batch, parts)["ce"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_without_the_token_is_refused_and_told_of_those_that_have_it():
    said = r"strategy\.ce: CifarResNet has no distillation token.*deit_tiny_distilled_patch16_224.*or strategy=kd"
    with pytest.raises(UserError, match=said):
        distillation("deit", small())
    parts = {"deit": strategy("deit")["deit"]}
    with pytest.raises(UserError, match=r"strategy\.deit: CifarResNet has no distillation token"):
        distillation(parts, small())


class TwoAnswers(nn.Module):
    """Two heads of these names, of which it gives the first one's answer."""

    def __init__(self):
        super().__init__()
        self.head, self.head_dist = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, images):
        x = images.flatten(1)
        return self.head(x) + 0 * self.head_dist(x)


def test_a_student_whose_output_is_not_the_mean_is_refused_in_the_trial():
    module = distillation({"deit": strategy("deit")["deit"]}, TwoAnswers()).eval()
    with pytest.raises(UserError, match=r"output of TwoAnswers is not the mean of its class token's and"):
        module.losses(make_batch(make_images()), ("deit",))


def test_the_arguments_are_checked():
    with pytest.raises(UserError, match="s and t must be logits"):
        functional.hard_distillation(draw(2, 3), draw(2, 4))


def test_timms_distilled_architectures_have_the_token():
    pytest.importorskip("timm")
    assert {"patch_size", "depth"} <= set(passed_on("deit_tiny_distilled_patch16_224")), "which its class hands on"
    file = yaml.safe_load((conf_dir() / "model/timm.yaml").read_text())
    small_one = {"architecture": "deit_tiny_distilled_patch16_224", "patch_size": 2, "depth": 4, "embed_dim": 48}
    config = ModelConfig.of(file | small_one | {"num_heads": 2}, "student")
    student = build_model(config, "student", list("0123456789"), SHAPE, mean=[0.5], std=[0.5], seed=0)
    assert student.info.token_heads == ("head", "head_dist")
    assert [stage.size for stage in student.info.stages] == [(4, 4)] * 4, "both tokens are left out of the maps"
    assert "token_heads" not in student.info.key()
    module = distillation("deit", student)
    read, net = {}, student.net
    for name in student.info.token_heads:
        net.get_submodule(name).register_forward_hook(lambda *a, name=name: read.update({name: a[-1]}))
    found = module.eval().losses(make_batch(make_images()), BOTH)
    first = module.teacher.model(make_images()).argmax(1)
    assert found["ce"].item() == pytest.approx(F.cross_entropy(read["head"], torch.arange(8)).item() / 2, rel=1e-5)
    assert found["deit"].item() == pytest.approx(F.cross_entropy(read["head_dist"], first).item() / 2, rel=1e-5)
