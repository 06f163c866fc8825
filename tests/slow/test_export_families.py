"""Slow: students of every family are exported in every format, and each file gives their logits for batches of any size."""

import pytest
import torch
import yaml
from helpers.fits import distillation, make_batch, make_images
from torch import nn

from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.evaluation.exported import TOLERANCE
from distillab.export.exporter import Shipped
from distillab.export.formats import EXPORTERS
from distillab.models.build import build_model

CLASSES = [f"class {number}" for number in range(10)]
VIT = {"architecture": "vit_tiny_patch16_224", "patch_size": 4, "depth": 2, "embed_dim": 48, "num_heads": 2}
FAMILIES = {  # what is built, and of which images
    "resnet8x4": ("resnet8x4", {}, (3, 32, 32)),
    "wide resnet": ("wrn_16_1", {}, (3, 32, 32)),
    "vgg": ("vgg8", {}, (3, 32, 32)),
    "mobilenet v2": ("mobilenetv2", {}, (3, 32, 32)),
    "shufflenet v1": ("shufflenetv1", {}, (3, 32, 32)),
    "shufflenet v2": ("shufflenetv2", {}, (3, 32, 32)),
    "torchvision resnet18": ("torchvision", {"architecture": "resnet18"}, (3, 32, 32)),
    "torchvision mobilenet v3": ("torchvision", {"architecture": "mobilenet_v3_small"}, (3, 64, 64)),
    "timm vit": ("timm", VIT, (3, 32, 32)),
    "deit of two heads": ("timm", VIT | {"architecture": "deit_tiny_distilled_patch16_224"}, (3, 32, 32)),
    "larger images inside": ("resnet8", {"input_size": 48}, (3, 32, 32)),
    "smaller images inside": ("resnet8", {"input_size": 32}, (3, 48, 48)),
    "grey images in three channels": ("torchvision", {"architecture": "resnet18"}, (1, 28, 28)),
    "another order of the classes": ("resnet8", {"classes": CLASSES[::-1]}, (3, 32, 32)),
}


def built(name, changes, shape):
    config = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()) | changes
    numbers = {"mean": (0.5,) * shape[0], "std": (0.25,) * shape[0]}
    return build_model(ModelConfig.of(config, "student"), "student", CLASSES, shape, **numbers, seed=0)


def images(shape, count=5, seed=1):
    return torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def awake(model, shape):
    """The model in eval mode, its running statistics those of some images: the logits of untrained networks are tiny."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all
    with torch.no_grad():
        for seed in range(3):
            model(pixels=images(shape, 16, seed).float() / 255)
    return model.eval()


def assert_every_format_agrees(model, shape, folder, formats=tuple(EXPORTERS)):
    shipped = Shipped(model, CLASSES, shape, lambda: iter([images(shape, 32, 2)]))
    for name, exporter in ((name, EXPORTERS[name]) for name in formats):
        exporter.export(shipped, path := folder / f"student{exporter.suffix}")
        answer = exporter.load(path)
        for count in (1, 5):
            pixels = images(shape, count)
            with torch.no_grad():
                expected = model(pixels=pixels.float() / 255)
            found, scale = answer(pixels), expected.abs().max()
            assert found.shape == expected.shape and found.dtype == torch.float32
            apart = ((found - expected).abs().max() / scale).item()
            print(f"{model.info.name} {name}: {apart:.1e}, {path.stat().st_size} bytes")
            if exporter.exact:
                assert apart < TOLERANCE
            else:  # how near 8 bits are is known of trained networks alone, by each file's own proof
                assert found.isfinite().all()
                assert count == 1 or found.std(0).min() > 0  # it tells images apart
        if not exporter.exact:
            assert path.stat().st_size < 0.5 * (folder / "student.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family, tmp_path):
    name, changes, shape = FAMILIES[family]
    if name == "timm":
        pytest.importorskip("timm")
    model = awake(built(name, changes, shape), shape)
    assert_every_format_agrees(model.to(memory_format=torch.channels_last), shape, tmp_path)


@pytest.mark.slow
def test_what_a_strategy_ships_goes_along(tmp_path):
    module = distillation("simkd")
    module.losses(make_batch(make_images()), tuple(module.strategy.terms))  # so that running statistics move
    deployed = module.eval().deployed().eval()
    assert deployed is not module.student
    module.release()
    assert_every_format_agrees(deployed, (1, 8, 8), tmp_path)


@pytest.mark.slow
def test_double_precision_is_for_torch_alone(tmp_path):
    shape = (3, 32, 32)
    model = awake(built("resnet8", {}, shape), shape).double()
    assert_every_format_agrees(model, shape, tmp_path, ["torch_export"])
    shipped = Shipped(model, CLASSES, shape, lambda: iter(()))
    with pytest.raises(UserError, match=r"resnet8 cannot be exported: ONNX refuses it .*implementation for Conv"):
        EXPORTERS["onnx"].convert(shipped)
