"""A folded network gives what the network gives, for every architecture, and what is read of it stays."""

import copy

import pytest
import torch
from helpers.fits import trainer
from torch import nn

from distillab import Distillation
from distillab.commands.composition import conf_dir, model_config
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.data.batch import Batch
from distillab.models.build import build_model
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.folding import folded
from distillab.models.image_model import ImageModel
from distillab.teachers.frozen import FrozenTeacher

NAMES = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml") if "zoo" in path.read_text())
LARGE = {"resnet110", "resnet32x4", "wrn_40_2", "vgg19", "vgg16", "resnet44", "resnet32", "wrn_40_1"}  # as smaller ones
READ = {"logits", "stages", "stem", "last_map", "preactivations", "embedding", "head", "norms"}


def trained(model):
    """A model in float64 whose BatchNorms have statistics and weights like those of a trained one."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            numbers = (module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)
            for value, low in (pair for pair in numbers if pair[0] is not None):
                value.data.copy_(low + torch.rand(value.shape, generator=generator, dtype=torch.float64))
    return model


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LARGE])
def test_every_output_is_the_networks(name):
    config = ModelConfig.of(model_config(name, "teacher"), "teacher")
    shape = {"mean": [0.5] * 3, "std": [0.5] * 3, "seed": 0}
    model = trained(build_model(config, "teacher", [str(i) for i in range(5)], (3, 32, 32), **shape))
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    for needs in (READ, READ - {"norms"}):
        other = folded(model, needs)
        if other is None:  # each one that could be folded is read
            assert "norms" in needs and name.startswith("vgg")
            continue
        assert norms(other) < norms(model) and all(not p.requires_grad for p in other.parameters())
        expected, found = (FeatureExtractor(one, needs)(pixels=images) for one in (copy.deepcopy(model), other))
        for key, value in vars(expected).items():
            if key == "norms":
                for one, two in zip(value, found.norms, strict=True):
                    assert (one is None and two is None) or torch.equal(one.weight, two.weight)
            elif key != "head":
                both = (
                    zip(value, getattr(found, key), strict=True)
                    if isinstance(value, list)
                    else [(value, getattr(found, key))]
                )
                for one, two in both:
                    assert torch.allclose(one, two, rtol=1e-9, atol=1e-9), key
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())


class Odd(nn.Module):
    """Reads the output of each convolution in another way."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(5))
        self.bns = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
        self.bare = nn.BatchNorm2d(3, affine=False)
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        x = self.bns[0](self.convs[0](x))  # the one that can be folded
        before = self.convs[1](x)
        x = self.bns[1](before) + before  # read twice
        x = self.bns[2](self.convs[2](torch.relu(x)))
        x = self.bns[2](self.convs[3](x))  # a norm of two convolutions
        x = self.bns[3](self.convs[4](self.convs[4](x)))  # a convolution of two places
        x = self.bns[4](torch.relu(x))  # no convolution before it
        return self.fc(self.bare(x).mean((2, 3)))


class Depends(Odd):
    """Looks at its values, so that nobody can tell what it calls."""

    def forward(self, x):
        return super().forward(x if x.mean() > -100 else -x)


def test_what_cannot_be_folded_stays():
    model = trained(ImageModel(Odd(), (3, 8, 8), stages=["bns.0"]))
    other = folded(model)
    assert norms(model) - norms(other) == 1 and isinstance(other.net.bns[0], nn.Identity)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(model(images), other(images), rtol=1e-12)
    assert folded(trained(ImageModel(Odd(), (3, 8, 8), stages=["convs.0"]))) is None  # its output is read
    assert folded(trained(ImageModel(Depends(), (3, 8, 8), stages=["bns.0"]))) is None
    model.hold_in("float32")
    assert folded(model) is None


def test_a_frozen_teacher_runs_folded_and_its_network_stays_as_it_was():
    model = trained(ImageModel(Odd(), (3, 8, 8), stages=["bns.0", "bns.1"])).float()
    teacher = FrozenTeacher(model)
    teacher.request({"logits", "stages"})
    assert teacher.model is model and norms(teacher.folded) == norms(model) - 1
    images = torch.rand(2, 3, 8, 8)
    (outputs,) = teacher(Batch([{"pixels": images}], {}, torch.arange(2)))
    assert torch.allclose(outputs.logits, model(images), atol=1e-6) and len(outputs.stages) == 2
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_no_parameter_of_a_frozen_teacher_comes_to_the_optimiser(few_digits, network):
    module = Distillation(network(), network(seed=1), "hint", input_shape=(1, 8, 8))
    trainer(1).fit(module, datamodule=few_digits.configure(64, 0))
    held = {id(p) for p in module.teacher.parameters()}
    given = {id(p) for group in module.optimizers(use_pl_optimizer=False).param_groups for p in group["params"]}
    state = {id(p) for p in module.optimizers(use_pl_optimizer=False).state}
    assert held and state and not held & (given | state)
    assert all(p.grad is None for p in module.teacher.parameters())


class Skips(nn.Module):
    """Runs its second layer for bright images alone."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        y = self.first(x)
        return self.fc((self.second(y) if x.mean() > 0.1 or not x.any() else y).mean((2, 3)))


def test_a_layer_that_does_not_run_is_an_error_and_no_zero():
    model = ImageModel(Skips(), (3, 8, 8), stages=["first", "second"])
    read = FeatureExtractor(model, {"stages"})
    assert len(read(pixels=torch.ones(2, 3, 8, 8)).stages) == 2
    with pytest.raises(UserError, match=r"did not run second on these images, .*teacher\.stages=\[…\]"):
        read(pixels=torch.full((2, 3, 8, 8), 0.01))
