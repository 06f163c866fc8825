"""Weights that tell other classes apart, or none: the teacher gets a fresh head, and the rest of them stays."""

import json

import pytest
import torch
import torchvision
from helpers.fits import assert_equal
from safetensors.torch import save_file
from torch import nn

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.export.safetensors import load_student, save_model
from distillab.models.build import build_model, check_network
from distillab.models.checkpoint import load_weights
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.feature_info import describe
from distillab.models.new_head import renew_head
from distillab.models.zoo.cifar_resnet import CifarResNet

RESNET8 = {
    "_target_": "distillab.models.zoo.cifar_resnet.CifarResNet",
    "depth": 8,
    "stages": ["layer1", "layer2", "layer3"],
    "head": "fc",
}
DATA = {"classes": list("abc"), "input_shape": (1, 8, 8), "mean": [0.5], "std": [0.5], "seed": 0}

FIVE = DATA | {"classes": list("eabcd")}


class Backbone(nn.Module):
    """Gives 12 features, and no logits; known to no config by its classes."""

    def __init__(self, pretrained: bool = False):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU())

    def forward(self, images):
        return self.blocks(images).mean((2, 3))


class Fixed(Backbone):
    """Tells five classes apart, whatever it is asked."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(12, 5)

    def forward(self, images):
        return self.classifier(super().forward(images))


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """The weights of a resnet8 for five classes, and a file of them."""
    weights = {
        name: 0.1 * torch.rand(v.shape) if v.is_floating_point() else v for name, v in _net(5).state_dict().items()
    }
    save_file(weights, file := tmp_path_factory.mktemp("five") / "five.safetensors")
    return weights, file


def _net(classes):
    return CifarResNet(depth=8, num_classes=classes, in_channels=1)


def built(node, role="teacher", **more):
    config = ModelConfig.of(node | {"mean": None, "std": None} | more, role)
    check_network(config, role)  # what is refused, or not, before the data are read
    return build_model(config, role, **DATA)


def body(weights, head="fc."):
    return {name: value for name, value in weights.items() if not name.startswith(head)}


@pytest.mark.parametrize("prefix", ["", "module.", "student.net."])
def test_a_head_for_other_classes_is_renewed_and_all_else_is_kept(five, tmp_path, prefix):
    weights, _ = five
    save_file({prefix + name: value for name, value in weights.items()}, file := tmp_path / "own.safetensors")
    model = built(RESNET8, checkpoint=str(file))
    assert model.info.outputs == 3 and "5 other classes" in model.new_head
    assert_equal(body(model.net.state_dict()), body(weights))
    images = torch.rand(2, 1, 8, 8)
    reference = _net(5)
    load_weights(reference, weights, "", "", key="")
    features = FeatureExtractor(model.eval(), {"embedding"})(pixels=images).embedding
    reference.fc = nn.Identity()
    assert torch.equal(features, reference.eval()((images - 0.5) / 0.5))


def test_weights_without_a_head_get_one(five, tmp_path):
    save_file(body(five[0]), file := tmp_path / "headless.safetensors")
    model = built(RESNET8, checkpoint=str(file))
    assert "no head" in model.new_head and model.info.outputs == 3
    assert_equal(body(model.net.state_dict()), body(five[0]))


def test_a_file_that_names_other_classes_gets_one_also_where_their_number_is_equal(tmp_path):
    own = built(RESNET8)
    assert own.new_head is None
    save_model(own, file := tmp_path / "own.safetensors", {}, list("xyz"))
    assert "(x, y, z, …)" in built(RESNET8, checkpoint=str(file)).new_head
    save_model(own, file, {}, list("cba"))  # the same in another order
    model = built(RESNET8, checkpoint=str(file))
    assert model.new_head is None and model.class_order.tolist() == [2, 1, 0]


def test_what_is_asked_for_is_done_where_the_classes_fit(tmp_path):
    save_file(_net(3).state_dict(), file := tmp_path / "own.safetensors")
    own = {"checkpoint": str(file)}
    assert built(RESNET8, **own).new_head is None and built(RESNET8, **own, adapt="all").new_head is None
    for adapt in ("head", "none"):
        assert built(RESNET8, **own, adapt=adapt).new_head == f"teacher.adapt={adapt}"


def test_a_file_that_names_more_classes_gets_one_too(tmp_path):
    wide = build_model(ModelConfig.of(RESNET8 | {"mean": None, "std": None}, "teacher"), "teacher", **FIVE)
    save_model(wide, file := tmp_path / "wide.safetensors", {}, list("eabcd"))
    for role in ("teacher", "student"):
        model = built(RESNET8, role, checkpoint=str(file)).eval()
        assert model(**model.example_inputs()).shape == (2, 3) and model.class_order is None


@pytest.mark.parametrize("with_head", [True, False])
def test_the_head_of_a_student_starts_anew_and_a_line_says_so(five, tmp_path, capsys, with_head):
    kept = five[0] if with_head else body(five[0])
    save_file(kept, file := tmp_path / f"student_{with_head}.safetensors")
    model = built(RESNET8, "student", checkpoint=str(file), name=f"net_{with_head}")
    why = (
        "tell 5 other classes apart, and the data have 3" if with_head else "have no head, and the data have 3 classes"
    )
    assert f"student net_{with_head}: its head starts anew (its weights {why})" in capsys.readouterr().out
    assert model.new_head is None and model.info.outputs == 3  # nothing is fitted: it is trained
    assert_equal(body(model.net.state_dict()), body(five[0]))
    assert torch.equal(model.net.fc.weight, built(RESNET8, "student").net.fc.weight)


def test_pretrained_weights_of_a_student_say_the_same(tmp_path, monkeypatch, capsys):
    weights = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: weights)
    node = {"_target_": "distillab.models.torchvision.torchvision_classifier", "architecture": "resnet18"}
    model = built(node, "student", pretrained=True)
    assert "student resnet18: its head starts anew (its pretrained weights tell other" in capsys.readouterr().out
    assert model.info.outputs == 3 and torch.equal(model.net.conv1.weight, weights["conv1.weight"])


def test_an_exported_student_has_its_own_head_or_is_refused(tmp_path):
    about = {"name": "resnet8", "model": RESNET8, "classes": list("abc"), "input_shape": [1, 8, 8]}
    metadata = {"distillab": json.dumps(about | {"mean": [0.5], "std": [0.5], "input_size": None})}
    save_file(_net(5).state_dict(), file := tmp_path / "student.safetensors", metadata)
    with pytest.raises(UserError, match=r"\(5, 64\), expected \(3, 64\)"):
        load_student(file)
    save_file(_net(3).state_dict(), file, metadata)
    assert load_student(file).info.outputs == 3


def test_named_outputs_are_refused_as_ever(five):
    own = {"checkpoint": str(five[1])}
    with pytest.raises(UserError, match=r"\(5, 64\), expected \(3, 64\)\); student.classes=\[…\] names"):
        built(RESNET8, "student", **own, classes=list("abc"))
    with pytest.raises(UserError, match=r"\(5, 64\), expected \(3, 64\)"):
        built(RESNET8, **own, classes=list("abc"))
    with pytest.raises(UserError, match=r"1 missing \(layer1"):  # only a head may differ
        save_file({k: v for k, v in five[0].items() if k != "layer1.0.conv1.weight"}, own["checkpoint"] + "x")
        built(RESNET8, checkpoint=own["checkpoint"] + "x")


def test_a_network_that_gives_features_gets_a_head_behind_them(tmp_path):
    node = {"_target_": "test_new_head.Backbone"}
    with pytest.raises(UserError, match="12 outputs and the data 3 classes"):  # trained here, it is no classifier
        built(node)
    save_file(Backbone().state_dict(), file := tmp_path / "own.safetensors")
    weights = Backbone().state_dict()
    save_file(weights, file)
    model = built(node, checkpoint=str(file), stages=["blocks.1", "blocks.3"]).eval()
    assert model.info.head == "new_head" and (model.info.embedding, model.info.outputs) == (12, 3)
    assert [stage.name for stage in model.info.stages] == ["blocks.1", "blocks.3"]  # paths of the network's own
    assert_equal(body(model.net.state_dict(), "new_head."), weights)
    images = torch.rand(2, 1, 8, 8)
    read = FeatureExtractor(model, {"embedding", "logits"})(pixels=images)
    reference = Backbone()
    reference.load_state_dict(weights)
    assert torch.equal(read.embedding, reference(((images - 0.5) / 0.5).expand(-1, 3, -1, -1)))
    assert torch.allclose(
        read.logits, read.embedding @ model.net.new_head.weight.T + model.net.new_head.bias, atol=1e-6
    )


def test_as_many_features_as_the_data_have_classes_are_no_logits_where_a_head_is_asked_for(tmp_path):
    save_file(Backbone().state_dict(), file := tmp_path / "own.safetensors")
    node = {"_target_": "test_new_head.Backbone", "checkpoint": str(file), "mean": None, "std": None}
    twelve = DATA | {"classes": list("abcdefghijkl")}
    for adapt, head in ((None, None), ("head", "new_head"), ("none", "new_head")):
        model = build_model(ModelConfig.of(node | {"adapt": adapt}, "teacher"), "teacher", **twelve)
        assert model.info.head == head and model.info.outputs == 12


def test_a_network_of_a_fixed_number_of_classes_gets_another_last_layer(tmp_path):
    save_file(Fixed().state_dict(), file := tmp_path / "own.safetensors")
    model = built({"_target_": "test_new_head.Fixed"}, checkpoint=str(file))
    assert "it has 5 outputs" in model.new_head and model.net.classifier.out_features == 3
    assert model.info.head == "classifier"


def test_a_student_whose_network_takes_no_number_of_classes_is_refused(tmp_path):
    node, data = {"_target_": "test_new_head.Fixed", "mean": None, "std": None}, DATA | {"classes": list("abcde")}
    own = build_model(ModelConfig.of(node, "student"), "student", **data)
    save_model(own, file := tmp_path / "own.safetensors", {}, list("vwxyz"))
    with pytest.raises(UserError, match=r"5 other classes \(v, w, x, …\) apart.*Fixed takes no num_classes"):
        build_model(ModelConfig.of(node | {"checkpoint": str(file)}, "student"), "student", **data)


def test_the_same_seed_gives_the_same_head(five):
    heads = [built(RESNET8, checkpoint=str(five[1])).net.fc.weight for _ in range(2)]
    assert torch.equal(*heads)


class Normalised(Backbone):
    """An embedding on the unit sphere, behind a projection; one layer as wide as it is called and dropped."""

    def __init__(self, pretrained: bool = False):
        super().__init__()
        self.projection, self.dropped = nn.Linear(12, 6), nn.Linear(6, 6)

    def forward(self, images):
        found = nn.functional.normalize(self.projection(super().forward(images)))
        self.dropped(found)
        return found


def test_the_head_is_put_behind_an_embedding_that_is_normalised():
    node = {"_target_": f"{__name__}.Normalised", "pretrained": True}
    data = DATA | {"input_shape": (3, 8, 8)}
    model = build_model(ModelConfig.of(node | {"mean": None, "std": None}, "teacher"), "teacher", **data).eval()
    assert model.info.head == "new_head" and model.info.embedding == 6
    net, images = model.net, torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        embedding = nn.functional.normalize(net.projection(net.blocks(images).mean((2, 3))))
        assert torch.equal(net(images), net.new_head(embedding))


@pytest.mark.parametrize("last", ["view", "squeeze"])
def test_a_head_whose_output_is_reshaped_makes_room_for_the_new_one(last):
    class Reshaped(Fixed):
        def forward(self, images):
            found = super().forward(images)
            return (
                found.view(-1, 3 if self.classifier.out_features == 3 else 5)
                if last == "view"
                else found[:, :, None].squeeze(2)
            )

    net = Reshaped()
    renew_head(net, (3, 8, 8), describe(net, (3, 8, 8), "net", stages=None, head=None), 3, seed=0)
    assert not hasattr(net, "new_head") and net.classifier.out_features == 3


def test_a_head_of_two_sizes_is_named(five, tmp_path):
    save_file(five[0] | {"fc.bias": torch.zeros(4)}, file := tmp_path / "two.safetensors")
    with pytest.raises(
        UserError, match=r"two\.safetensors has a head of two sizes: fc\.weight .* 5 classes, fc\.bias for 4"
    ):
        built(RESNET8, checkpoint=str(file))


class Convolution(nn.Module):
    """Tells classes apart by a convolution of 1×1, pooled."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.blocks, self.cls = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Conv2d(8, num_classes, 1)

    def forward(self, images):
        return self.cls(self.blocks(images)).mean((2, 3))


@pytest.mark.parametrize(("role", "head"), [("teacher", "new_head"), ("student", None)])
def test_behind_a_head_that_is_no_linear_layer_a_teacher_gets_one(tmp_path, role, head):
    torch.save(Convolution().state_dict(), tmp_path / "five.pth")
    node = {"_target_": f"{__name__}.Convolution", "checkpoint": str(tmp_path / "five.pth")}
    config = ModelConfig.of(node | {"mean": None, "std": None}, role)
    model = build_model(config, role, **DATA | {"input_shape": (3, 8, 8)})
    assert model.info.head == head and model.info.outputs == 3
    assert model.net.cls.out_channels == (5 if role == "teacher" else 3)


class Several(Fixed):
    """Gives two outputs."""

    def forward(self, images):
        return super().forward(images), 1


def test_a_network_that_gives_more_than_logits_is_told_to_be_wrapped():
    config = ModelConfig.of({"_target_": f"{__name__}.Several", "mean": None, "std": None}, "teacher")
    with pytest.raises(UserError, match=r"gives no tensor where logits \(N, classes\) are expected; wrap it"):
        build_model(config, "teacher", **DATA | {"input_shape": (3, 8, 8)})
