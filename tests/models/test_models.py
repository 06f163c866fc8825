"""The zoo against its published sizes; specs, taps and adapters."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.models.build import build_model
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.feature_info import match_stages
from distillab.models.image_model import ImageModel
from distillab.models.timm import timm_classifier
from distillab.models.torchvision import _replace_stem, torchvision_classifier
from distillab.models.zoo.cifar_resnet import CifarResNet


def test_the_dry_run_touches_nothing():
    net = torchvision_classifier("resnet18", 10, 1, 8).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    spec = ImageModel(net, (1, 8, 8), stages=["layer1", "layer4"]).info
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert [(s.channels, s.height, s.width) for s in spec.stages] == [(64, 8, 8), (512, 1, 1)]
    assert (spec.embedding, spec.outputs, spec.head) == (512, 10, "fc")


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "efficientnet_b0", "vgg11_bn", "densenet121"])
def test_other_torchvision_families_show_stages(architecture):
    spec = ImageModel(torchvision_classifier(architecture, 5, 3, 32), (3, 32, 32)).info
    assert len(spec.stages) >= 2 and spec.outputs == 5
    assert [s.height for s in spec.stages] == sorted((s.height for s in spec.stages), reverse=True)


@pytest.mark.parametrize(
    ("library", "architecture", "first"),
    [
        ("torchvision", "resnet18", "layer1"),  # behind `relu`, which would be the first at this size
        ("torchvision", "mobilenet_v3_small", "features.2.block.0"),
        ("timm", "resnet18", "layer1"),
        ("timm", "resnet10t", "layer1"),  # a stem of three convolutions
        ("timm", "mobilenetv3_small_050", "blocks.1.0.bn1"),
        ("timm", "vit_tiny_patch16_224", "blocks.2"),
    ],
)
def test_the_stem_is_no_stage(library, architecture, first):
    if library == "timm":
        pytest.importorskip("timm")
    make = {"torchvision": torchvision_classifier, "timm": timm_classifier}[library]
    with torch.device("meta"):
        net = make(architecture, 5, 3, 64)
    stages = ImageModel(net.to_empty(device="cpu"), (3, 64, 64)).info.stages
    assert stages[0].name == first and len(stages) >= 3


def test_a_network_of_two_layers_keeps_both():
    layers = [nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()) for i, o in ((1, 4), (4, 8))]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))
    assert [str(stage) for stage in ImageModel(net, (1, 8, 8)).info.stages] == ["0 (4×4×4)", "1 (8×2×2)"]


def test_a_plain_network_of_single_layers_keeps_its_first():
    layers = [nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.ReLU()) for i, o, s in ((1, 4, 1), (4, 8, 2), (8, 16, 2))]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))
    shown = [str(stage) for stage in ImageModel(net, (1, 8, 8)).info.stages]
    assert shown == ["0 (4×8×8)", "1 (8×4×4)", "2 (16×2×2)"]


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 16, 32)])
def test_maps_with_channels_last_are_turned(shape):
    net = SwinTransformer([2, 2], 24, [1, 1], [2, 2], [4, 4], num_classes=5)
    model = ImageModel(net, shape).eval()
    height, width = shape[1] // 2, shape[2] // 2
    expected = [(24, height, width), (48, height // 2, width // 2)]
    assert [(s.channels, *s.size) for s in model.info.stages] == expected
    images = torch.rand(2, *shape)
    maps = FeatureExtractor(model, {"stages"})(pixels=images).stages
    assert [tuple(m.shape[1:]) for m in maps] == expected
    assert torch.equal(maps[0], net.features[:2](images).permute(0, 3, 1, 2))


def test_tokens_become_maps():
    net = torchvision_classifier("vit_b_16", 5, image_size=32)
    model = ImageModel(net, (3, 32, 32))
    assert len(model.info.stages) == 4 and model.info.stages[0].channels == 768
    maps = FeatureExtractor(model.eval(), {"stages"})(pixels=torch.rand(2, 3, 32, 32)).stages
    assert maps[-1].shape == (2, 768, 2, 2)


def test_taps_read_what_the_network_computes():
    model = ImageModel(CifarResNet(8, num_classes=10), (3, 32, 32)).eval()
    images = torch.rand(2, 3, 32, 32)
    read = FeatureExtractor(model, {"logits", "stages", "preactivations", "embedding", "head"})(pixels=images)
    assert torch.equal(read.head(read.embedding), read.logits)
    assert torch.equal(read.stages[-1].mean((2, 3)), read.embedding)
    for stage, before in zip(read.stages, read.preactivations, strict=True):
        assert (before < 0).any()  # an in-place ReLU would have overwritten them
        assert torch.equal(before.relu(), stage)


class Block(nn.Module):
    """A convolution whose activation may be a module or a function."""

    def __init__(self, channels, activation):
        super().__init__()
        self.convolution, self.activation = nn.Conv2d(*channels, 3, 2, 1), activation

    def forward(self, x):
        return self.activation(self.convolution(x))


def test_a_map_that_only_shows_what_follows_an_activation_is_no_preactivation():
    images = torch.rand(2, 1, 8, 8)
    module, function = (
        ImageModel(
            nn.Sequential(Block((1, 4), make()), Block((4, 8), make()), nn.Flatten(), nn.Linear(32, 10)),
            (1, 8, 8),
            "net",
        )
        for make in (nn.ReLU, lambda: nn.functional.relu)
    )
    assert all((m < 0).any() for m in FeatureExtractor(module, {"preactivations"})(pixels=images).preactivations)
    with pytest.raises(
        UserError, match=r"^net shows 0 \(4×4×4\) only after its activation.*choose strategy=attention$"
    ):
        FeatureExtractor(function, {"preactivations"})(pixels=images)
    FeatureExtractor(function, {"stages"})(pixels=images)  # which are what they are called


def test_a_stage_that_no_forward_pass_calls_is_told():
    class Silent(nn.Module):
        """Its convolution is used as a function: no hook on it ever fires."""

        def __init__(self):
            super().__init__()
            self.layer1, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

        def forward(self, x):
            return self.fc(nn.functional.conv2d(x, self.layer1.weight).mean((2, 3)))

    said = r'"layer1" of silent is no map, or is never called as a module in its forward pass.*\(its maps: none\)'
    with pytest.raises(UserError, match=said):
        ImageModel(Silent(), (1, 8, 8), "silent", stages=["layer1"])


def test_a_stage_that_is_an_activation_is_read_before_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10))
    model, images = ImageModel(net, (1, 8, 8), stages=["1"]), torch.rand(2, 1, 8, 8)
    assert torch.equal(FeatureExtractor(model, {"preactivations"})(pixels=images).preactivations[0], net[0](images))


def test_only_what_was_asked_for_is_there():
    read = FeatureExtractor(ImageModel(CifarResNet(8), (3, 32, 32)), {"logits"})(pixels=torch.rand(1, 3, 32, 32))
    with pytest.raises(AttributeError):
        _ = read.stages


def test_stages_pair_by_number_else_by_resolution_else_are_refused():
    small = ImageModel(CifarResNet(8, in_channels=1), (1, 8, 8), name="small").info
    large = ImageModel(
        torchvision_classifier("resnet18", 10, 1, 8), (1, 8, 8), "large", stages=[f"layer{i}" for i in (1, 2, 3, 4)]
    ).info
    assert match_stages(small, small) == [(0, 0), (1, 1), (2, 2)]
    assert match_stages(small, large) == [(0, 0), (1, 1), (2, 2)]
    odd = ImageModel(
        nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.Flatten(), nn.Linear(16, 10)), (1, 8, 8), "odd", stages=["0"]
    ).info
    with pytest.raises(UserError, match=r"layer1 \(16×8×8\).* against"):
        match_stages(
            small,
            ImageModel(
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)), (1, 8, 8), stages=["0"]
            ).info,
        )
    assert match_stages(small, odd) == [(2, 0)]


def test_normalisation_size_and_class_order_belong_to_the_model():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            assert x.shape[1:] == (3, 16, 16)
            return x.mean((2, 3))

    model = ImageModel(Mean(), (1, 8, 8), mean=[0.5] * 3, std=[0.25, 0.5, 1.0], input_size=16, class_order=[2, 0, 1])
    assert model(torch.ones(1, 1, 8, 8))[0].tolist() == pytest.approx([0.5, 2.0, 1.0])
    assert "mean" not in model.state_dict()


def test_pretrained_weights_come_from_a_local_file(tmp_path, monkeypatch):
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.get_model_weights("resnet18").DEFAULT
    file = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    source = models.resnet18()
    torch.save(source.state_dict(), file)
    net = torchvision_classifier("resnet18", 7, image_size=8, pretrained=True)
    assert torch.equal(net.layer1[0].conv1.weight, source.layer1[0].conv1.weight) and net.fc.out_features == 7
    file.write_text("no weights")
    with pytest.raises(UserError, match="does not hold torchvision's weights"):
        torchvision_classifier("resnet18", 7, pretrained=True)


def test_timm_weights_come_from_a_local_file_with_their_normalisation(tmp_path, monkeypatch):
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    name = "vit_tiny_patch16_224"
    config = {"_target_": "distillab.models.timm.timm_classifier", "architecture": name, "pretrained": True}
    arguments = (ModelConfig.of(config), "teacher", list("abcdefg"), (3, 32, 32))
    of_data = {"mean": [0.1], "std": [0.2], "seed": 0}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"timm cannot make {name}"):
        build_model(*arguments, **of_data)
    own = timm.get_pretrained_cfg(name)
    snapshot = tmp_path / f"models--{own.hf_hub_id.replace('/', '--')}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    source = timm.create_model(name)
    save_file(source.state_dict(), snapshot / "model.safetensors")
    model = build_model(*arguments, **of_data)
    assert torch.equal(model.net.patch_embed.proj.weight, source.patch_embed.proj.weight)
    assert model.net.head.out_features == 7 and model.input_size == 224
    assert model.mean.flatten().tolist() == list(own.mean) == [0.5] * 3


def test_a_small_stem_keeps_what_a_first_convolution_has():
    """One of stride 1 and the data's channels stays as it is; another keeps its dilation, groups and padding mode."""
    torch.manual_seed(0)
    plain = torchvision.models.vgg11(num_classes=10)
    torch.manual_seed(0)
    small = torchvision_classifier("vgg11", 10, 3, 32)
    assert torch.equal(small.features[0].weight, plain.features[0].weight)
    kept = {"dilation": 2, "groups": 2, "padding_mode": "reflect"}
    for kernel, padding in ((3, 1), (7, 6)):
        net = nn.Sequential(nn.Conv2d(4, 8, kernel, stride=2, padding=padding, bias=False, **kept))
        _replace_stem(net, "0", 4, shrink=True)
        (new,) = net
        assert (new.stride, new.dilation, new.groups, new.padding_mode) == ((1, 1), (2, 2), 2, "reflect")
        assert new.kernel_size == (3, 3) and new.padding == ((1, 1) if kernel == 3 else (2, 2)) and new.bias is None
    _replace_stem(net, "0", 1, shrink=True)
    assert net[0].groups == 1 and net[0].in_channels == 1
