"""Teachers and students of different kinds, sizes and normalisation learn from each other."""

import pytest
import torch
import yaml
from helpers.fits import make_batch

from distillab import Distillation
from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.models.build import build_model
from distillab.models.feature_info import FeatureInfo, Stage, match_stages
from distillab.models.image_model import ImageModel

SHAPE = (3, 32, 32)
VIT = {"architecture": "vit_tiny_patch16_224", "patch_size": 8, "depth": 4, "embed_dim": 48, "num_heads": 2}
SWIN = {"architecture": "swin_tiny_patch4_window7_224", "patch_size": 1, "window_size": 4}
SWIN |= {"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [2, 2, 2]}
PAIRS = {  # student, teacher: a file of conf/model and what is changed in it
    "cnn from another cnn": (("resnet8", {}), ("vgg8", {})),
    "cnn from a transformer": (("resnet8", {}), ("timm", VIT)),
    "transformer from a cnn": (("timm", VIT), ("resnet20", {})),
    "torchvision's transformer": (("resnet8", {}), ("torchvision", {"architecture": "vit_b_16"})),
    "a transformer whose channels lie last": (("resnet8", {}), ("timm", SWIN)),
    "fewer channels everywhere": (("mobilenetv2", {}), ("resnet50", {})),
    "a pre-activation student": (("wrn_16_1", {}), ("resnet8x4", {})),
    "grouped channels": (("shufflenetv1", {}), ("vgg8", {})),
    "another input size": (("resnet8", {}), ("resnet14", {"input_size": 64})),
    "other normalisation": (("resnet8", {}), ("resnet14", {"mean": [0.1, 0.2, 0.3], "std": [0.5, 1.0, 2.0]})),
}
EXPECTED = {  # student's stage, teacher's
    "cnn from another cnn": [(0, 0), (1, 1), (2, 3)],
    "cnn from a transformer": [(0, 0), (1, 1), (2, 3)],
    "transformer from a cnn": [(0, 0), (1, 1), (3, 2)],
    "a transformer whose channels lie last": [(0, 0), (1, 1), (2, 2)],
    "fewer channels everywhere": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "grouped channels": [(0, 0), (1, 1), (2, 3)],
    "another input size": [(0, 0), (1, 1), (2, 2)],
}


def strategy(*names):
    files = [yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text()) for name in names]
    return {name: node for file in files for name, node in file.items()}


def model(role, name, changes, seed):
    config = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()) | changes
    config = ModelConfig.of(config, role)
    return build_model(config, role, [str(i) for i in range(10)], SHAPE, mean=[0.5] * 3, std=[0.25] * 3, seed=seed)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_student_learns_from_logits_a_hint_and_attention(pair):
    if "timm" in (PAIRS[pair][0][0], PAIRS[pair][1][0]):
        pytest.importorskip("timm")
    student, teacher = (model(*chosen) for chosen in (("student", *PAIRS[pair][0], 0), ("teacher", *PAIRS[pair][1], 1)))
    module = Distillation(student, teacher, strategy("kd", "hint", "attention"))
    if pair in EXPECTED:
        assert match_stages(student.info, teacher.info) == EXPECTED[pair]
    batch = make_batch(torch.rand(4, *SHAPE))
    losses = module.losses(batch, ("kd", "hint", "attention"))
    for term, loss in losses.items():
        assert torch.isfinite(loss), term
        gradients = torch.autograd.grad(loss, list(student.parameters()), allow_unused=True, retain_graph=True)
        total = sum(g.abs().sum() for g in gradients if g is not None)
        assert torch.isfinite(total) and total > 0, term
    connector = list(module.strategy.terms["hint"].connector.parameters())
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["hint"], connector[:1]))


def test_a_teacher_sees_images_as_it_is_used_to():
    """The same network with other normalisation or size gives what it gives for images prepared by hand."""
    plain = model("teacher", "resnet8", {}, 0).eval()
    images = torch.rand(2, *SHAPE)
    other = ImageModel(plain.net, SHAPE, mean=[0.1] * 3, std=[2.0] * 3, input_size=64).eval()
    bare = ImageModel(plain.net, SHAPE).eval()
    larger = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    assert torch.allclose(other(images), bare((larger - 0.1) / 2.0), atol=1e-5)
    assert [s.height for s in other.info.stages] == [2 * s.height for s in plain.info.stages]


@pytest.mark.parametrize("student", ["mobilenetv2", "shufflenetv2"])
def test_heads_read_the_map_behind_the_last_stage(student):
    """As in the papers of both methods, with no stage named by hand."""
    module = Distillation(
        model("student", student, {}, 0), model("teacher", "resnet8x4", {}, 1), strategy("cat", "sdd")
    ).eval()  # so that the heads' logits are compared with those of the maps
    batch = make_batch(torch.rand(4, *SHAPE))
    own = list(module.student.net.final.parameters())
    for term, loss in module.losses(batch, ("cat", "sdd")).items():
        gradients = torch.autograd.grad(loss, own, retain_graph=True)
        assert torch.isfinite(loss) and sum(g.abs().sum() for g in gradients) > 0, term


def spec(*sides):
    return FeatureInfo("made", tuple(Stage(f"layer{i}", 8, side, side) for i, side in enumerate(sides)), 8, 10, "fc")


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ((32, 16, 8), (32, 16, 8, 4), [(0, 0), (1, 1), (2, 2)]),  # a size that only the teacher has is left out
        ((16, 8, 4, 4), (16, 8, 4), [(0, 0), (1, 1), (3, 2)]),  # the last of a size counts
        ((8, 8, 8, 8), (32, 16, 8), [(0, 0), (1, 1), (3, 2)]),  # by depth, the last with the last
        ((32, 16, 8), (4, 4), [(0, 0), (2, 1)]),
        ((32, 16, 8), (16, 8, 4, 4), [(0, 0), (1, 1), (2, 3)]),
        ((32, 16, 8), (8,), [(2, 0)]),
    ],
)
def test_stages_pair_up(student, teacher, pairs):
    assert match_stages(spec(*student), spec(*teacher)) == pairs


@pytest.mark.parametrize(("student", "teacher"), [((32, 16, 8), (16, 8, 4, 2)), ((32, 16), (7,)), ((), (8,)), ((), ())])
def test_stages_that_do_not_are_shown(student, teacher):
    with pytest.raises(UserError, match=r"do not pair up: .*; name as many on both sides"):
        match_stages(spec(*student), spec(*teacher))


class NoMaps(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))


MAPLESS = ["attention", "hint", "nst", "vid", "sp", "semckd", "ft", "wkd", "simkd", "cat", "sdd", "ab"]


@pytest.mark.parametrize("name", MAPLESS)
def test_a_model_without_maps_is_told_what_to_choose(name):
    nets = [ImageModel(NoMaps(), SHAPE, "mlp"), model("teacher", "resnet8", {}, 1)]
    said = (
        r"reads feature maps, and mlp shows no maps; choose a method on logits, e\.g\. strategy=kd, or .* {}\.stages="
    )
    with pytest.raises(UserError, match=said.format("student")):
        Distillation(*nets, strategy(name))
    with pytest.raises(UserError, match=said.format("teacher")):
        Distillation(*reversed(nets), strategy(name))


def test_a_model_without_maps_learns_from_logits():
    Distillation(ImageModel(NoMaps(), SHAPE, "mlp"), model("teacher", "resnet8", {}, 1), strategy("kd"))


class PooledFirst(torch.nn.Module):
    """A 1×1 convolution behind the pooling, as in MobileNetV3: its map of one pixel is no last map."""

    def __init__(self):
        super().__init__()
        self.layer1 = torch.nn.Conv2d(3, 8, 3, stride=8)
        self.pool, self.wide, self.fc = (
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Conv2d(8, 16, 1),
            torch.nn.Linear(16, 10),
        )

    def forward(self, x):
        return self.fc(self.wide(self.pool(self.layer1(x))).flatten(1))


def test_a_map_behind_the_pooling_is_not_taken_for_the_last():
    student = ImageModel(PooledFirst(), SHAPE, "pooled_first", stages=["layer1"])
    with pytest.raises(UserError, match="the head of pooled_first does not read the mean of its last map"):
        Distillation(student, model("teacher", "resnet8", {}, 1), strategy("cat"))
