"""Every architecture of the distillation literature: its published size, its stages, and what can be read there."""

from functools import cache

import pytest
import torch
import yaml

from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.evaluation.efficiency import multiply_adds, parameters
from distillab.models.build import build_model
from distillab.models.feature_extractor import MODEL_OUTPUTS, FeatureExtractor
from distillab.models.zoo.layers import shuffle
from distillab.models.zoo.vgg import VGG
from distillab.models.zoo.wide_resnet import WideResNet

SIZES = {  # millions of parameters and of multiply-adds at 32×32 and 100 classes, as published
    "resnet8": ("0.084", "12.5"),
    "resnet14": ("0.181", "26.7"),
    "resnet20": ("0.278", "40.8"),
    "resnet32": ("0.473", "69.1"),
    "resnet56": ("0.862", "125.8"),
    "resnet110": ("1.737", "253.2"),
    "resnet8x4": ("1.234", "177.1"),
    "resnet32x4": ("7.434", "1083"),
    "wrn_16_1": ("0.181", "26.7"),
    "wrn_16_2": ("0.703", "101.1"),
    "wrn_40_1": ("0.570", "83.3"),
    "wrn_40_2": ("2.255", "327.6"),
    "vgg8": ("3.965", "96.2"),
    "vgg13": ("9.462", "284.9"),
    "mobilenetv2": ("0.813", "6.5"),
    "shufflenetv1": ("0.949", "38.7"),
    "shufflenetv2": ("1.356", "44.5"),
    "resnet50": ("23.705", "1298"),
}
MAPS = {  # channels and side of each stage at 32×32
    "wrn_16_1": [(16, 32), (32, 16), (64, 8)],
    "wrn_16_2": [(32, 32), (64, 16), (128, 8)],
    "wrn_40_1": [(16, 32), (32, 16), (64, 8)],
    "wrn_40_2": [(32, 32), (64, 16), (128, 8)],
    "vgg8": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "vgg11": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "vgg13": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "vgg16": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "vgg19": [(128, 16), (256, 8), (512, 4), (512, 4)],
    "mobilenetv2": [(12, 16), (16, 8), (48, 4), (160, 2)],
    "shufflenetv1": [(240, 16), (480, 8), (960, 4)],
    "shufflenetv2": [(116, 16), (232, 8), (464, 4)],
}
LINEAR = {"mobilenetv2"}  # stages that end without an activation
MIXED = {"shufflenetv2"}  # stages whose last activation follows channels of two origins, so no one BatchNorm
AHEAD = {"mobilenetv2", "shufflenetv2"}  # a 1×1 convolution between the last stage and the embedding
RAW = {"wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"}  # stages that end before the BatchNorm of the next block
STEMS = {
    "wrn": ("conv1", 16, 32),
    "vgg": ("layer0", 64, 32),
    "resnet8x4": ("relu", 32, 32),
    "resnet8": ("relu", 16, 32),
}


@cache
def zoo(name, shape=(3, 32, 32), classes=100):
    config = ModelConfig.of(yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()))
    half = [0.5] * shape[0]
    return build_model(config, "student", [str(i) for i in range(classes)], shape, mean=half, std=half, seed=0)


def shift_norms(model):
    """As after training: fresh statistics would hide a map from before the BatchNorm."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.uniform_(-0.5, 0.5)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name):
    model = zoo(name)
    adds = multiply_adds(model) / 1e6
    assert (f"{parameters(model) / 1e6:.3f}", f"{adds:.{0 if adds >= 1000 else 1}f}") == SIZES[name]


@pytest.mark.parametrize("name", MAPS)
def test_stages_and_head_are_named_and_read(name):
    model = zoo(name).eval()
    spec = model.info
    assert [(s.channels, s.height) for s in spec.stages] == MAPS[name] and spec.head == "fc"
    shift_norms(model)
    read = FeatureExtractor(model, {*MODEL_OUTPUTS} - {"attentions", "token_logits"})(pixels=torch.rand(2, 3, 32, 32))
    assert torch.equal(read.head(read.embedding), read.logits)
    assert spec.last_map.name == ("final" if name in AHEAD else spec.stages[-1].name.removesuffix(".sum"))
    assert torch.allclose(read.last_map.mean((2, 3)), read.embedding, atol=1e-5)
    for found in (spec.key(), repr(spec)):
        assert "final" not in found and "stem" not in found  # keys of stores and caches stay
    for after, before, norm in zip(read.stages, read.preactivations, read.norms, strict=True):
        assert after.shape == before.shape and (before < 0).any() and (before > 0).any()
        expected = norm(after) if name in RAW else after
        assert torch.equal(expected, before if name in LINEAR | RAW else before.relu())
        assert norm is None if name in MIXED else norm.num_features == before.shape[1]


@pytest.mark.parametrize("name", ["wrn_16_1", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64)], ids=str)
def test_other_sizes_and_channels_run_and_every_weight_learns(name, shape):
    model = zoo(name, shape, classes=10)
    logits = model(torch.rand(2, *shape))
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_shuffle_mixes_the_groups_and_loses_nothing():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("name", ["wrn_16_2", "wrn_40_1"])
def test_a_wide_resnet_is_read_before_the_batchnorm_of_the_next_block(name):
    """Layer by layer, as the blocks of arXiv 1605.07146 follow each other: each opens with BatchNorm and ReLU."""
    model, images = zoo(name).eval(), torch.rand(2, 3, 32, 32)
    shift_norms(model)
    read = FeatureExtractor(model, {"stages", "preactivations", "stem", "last_map", "logits"})(pixels=images)
    net, x = model.net, model.net.conv1((images - 0.5) / 0.5)
    assert torch.equal(read.stem, x)
    for number, layer in enumerate((net.layer1, net.layer2, net.layer3)):
        assert bool(len(layer[0].activate)) == (number == 0)  # the others get theirs at the end of the layer before
        *blocks, end, norm, relu = layer
        assert not list(end.parameters())
        for block in blocks:
            given = block.activate(x)
            x = block.residual(given) + (x if block.shortcut is None else block.shortcut(given))
        torch.testing.assert_close(read.stages[number], x)
        assert (x < 0).any()
        torch.testing.assert_close(read.preactivations[number], norm(x))
        x = relu(norm(x))
    torch.testing.assert_close(read.last_map, x)
    torch.testing.assert_close(read.logits, net.fc(x.mean((2, 3))))


@pytest.mark.parametrize("name", ["wrn_16_2", "vgg8", "vgg13", "resnet8x4", "resnet8"])
def test_the_map_before_the_first_stage_is_that_of_the_stem(name):
    stem = zoo(name).info.stem
    expected = next(value for prefix, value in STEMS.items() if name.startswith(prefix))
    assert (stem.name, stem.channels, stem.height) == expected


@pytest.mark.parametrize(("make", "message"), [(lambda: VGG(9), "8, 11, 13, 16, 19"), (lambda: WideResNet(20), "6n")])
def test_depths_that_are_none_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
