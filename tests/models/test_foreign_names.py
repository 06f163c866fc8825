"""Checkpoints whose tensors have other names: taken by their order where that is known and nothing speaks against it."""

import argparse
from functools import cache

import numpy as np
import pytest
import torch
import yaml
from helpers.foreign_names import foreign, randomised
from safetensors.torch import save_file
from torch import nn

from distillab.commands.composition import conf_dir
from distillab.core import output
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import build
from distillab.models.build import build_model, check_network
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.zoo.cifar_resnet import CifarResNet

FILES = {path.stem: yaml.safe_load(path.read_text()) for path in (conf_dir() / "model").glob("*.yaml")}
NAMES = sorted(
    name
    for name, file in FILES.items()
    if file["_target_"].startswith("distillab.models.zoo.") or name in ("resnet18", "resnet34", "resnet50")
)
CLASSES = 7
KEY = "teacher.checkpoint"


def config(name, **own):
    return ModelConfig.of({**FILES[name], **own}, "teacher")


def network(name, seed=0, classes=CLASSES):
    """Fresh, for images of 32 pixels."""
    node = config(name).builder
    torch.manual_seed(seed)
    image = {"image_size": 32} if "architecture" in FILES[name] else {}
    return build(node, "teacher", num_classes=classes, in_channels=3, **image)


@cache
def trained(name):
    return randomised(network(name))


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch):
    monkeypatch.setattr(output, "_told", set())


def loaded(net, state, name="net"):
    load_weights(net, state, name, "a.pth", key=KEY)
    return net


def test_all_families_are_here():
    assert len(NAMES) > 20 and {"resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"} <= {
        *NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_equal_to_the_last_bit(name, capsys):
    """Of both repositories' names, which follow the order in which their modules are registered."""
    net, images = trained(name), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    state = foreign(net)
    assert state.keys() != net.state_dict().keys()
    for form in (state, foreign(net, counters=False), {f"module.{key}": value for key, value in state.items()}):
        other = loaded(network(name, seed=1).double().eval(), form, name)
        assert torch.equal(other(images), net(images))
    told = capsys.readouterr().out.splitlines()
    assert (
        len({line for line in told if "taken in their order" in line}) == len(told) == 2
    )  # with a prefix it is another
    assert f"teacher.checkpoint: a.pth has other names than {name}" in told[0]


def test_no_two_networks_can_be_taken_for_each_other():
    shapes = [tuple(tuple(v.shape) for k, v in trained(name).state_dict().items()) for name in NAMES]
    assert len(set(shapes)) == len(shapes)


def test_names_that_fit_are_not_told_of(capsys):
    net = trained("resnet8x4")
    loaded(network("resnet8x4", seed=1).double(), net.state_dict())
    assert not capsys.readouterr().out


def swapped(state, one, other):
    """Two tensors, each in the other's place in the file."""
    items = list(state.items())
    places = {key: place for place, (key, _) in enumerate(items)}
    items[places[one]], items[places[other]] = items[places[other]], items[places[one]]
    return dict(items)


UNSAFE = {  # the same shapes in another order of the file
    "a name that fits is elsewhere": ("resnet20", "layer1.0.conv1.weight", "layer1.1.conv1.weight"),
    "two blocks": ("wrn_16_2", "block1.layer.1.conv1.weight", "block1.layer.1.conv2.weight"),
    "of two blocks": ("vgg13", "block3.3.weight", "block4.0.weight"),
    "two last words": ("shufflenetv2", "layer1.1.bn1.weight", "layer1.1.bn1.bias"),
    "two modules of one block": ("shufflenetv2", "layer1.1.bn1.weight", "layer1.1.bn2.weight"),
    "two of one number": ("shufflenetv1", "layer1.1.bn1.running_mean", "layer1.1.bn2.running_mean"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_another_order_of_the_same_shapes_is_refused(case):
    name, one, other = UNSAFE[case]
    state = foreign(trained(name))
    assert state[one].shape == state[other].shape
    with pytest.raises(UserError, match=f"a.pth does not fit {name}: .*missing.*unexpected"):
        loaded(network(name), swapped(state, one, other), name)


def test_an_alphabetical_file_is_refused(tmp_path):
    """safetensors have no order of their own."""
    net = trained("resnet20")
    save_file({key: value.contiguous() for key, value in foreign(net).items()}, tmp_path / "a.safetensors")
    for state in (dict(sorted(foreign(net).items())), read_weights(tmp_path / "a.safetensors")[0]):
        with pytest.raises(
            UserError, match=r"does not fit resnet20: .*shapes fit in another order: take a file of torch.save"
        ):
            loaded(network("resnet20"), state, "resnet20")


def test_a_tenth_block_before_the_second_is_refused():
    """All their shapes are equal, and no name is ours."""
    net = trained("resnet110")
    state = {key.replace("layer", "stage").replace("fc", "head"): value for key, value in foreign(net).items()}
    renamed = {f"net.{key.replace('conv', 'c').replace('bn', 'b')}": value for key, value in state.items()}
    assert torch.equal(loaded(network("resnet110").double(), renamed).fc.weight, net.fc.weight)

    def alphabetical(key):
        parts = key.split(".")
        return (parts[1], parts[2]) if parts[1].startswith("stage") else ("z" if parts[1] == "head" else "", "")

    mixed = {key: renamed[key] for key in sorted(renamed, key=alphabetical)}  # stable: the order within a block stays
    assert [value.shape for value in mixed.values()] == [value.shape for value in renamed.values()]
    assert list(mixed) != list(renamed)
    with pytest.raises(UserError, match="does not fit resnet110"):
        loaded(network("resnet110"), mixed, "resnet110")


def test_names_without_numbers_show_an_exchange_where_a_module_is_in_two_places():
    net = trained("resnet20")
    words = {
        "layer1.0": "first.a",
        "layer1.1": "first.b",
        "conv1": "ca",
        "conv2": "cb",
        "bn1": "na",
        "bn2": "nb",
        "fc": "head",
    }
    state = foreign(net)
    for word, other in words.items():
        state = {key.replace(word, other): value for key, value in state.items()}
    assert torch.equal(loaded(network("resnet20").double(), state).fc.weight, net.fc.weight)
    with pytest.raises(UserError, match="does not fit"):
        loaded(network("resnet20"), swapped(state, "first.a.na.running_mean", "first.b.na.running_mean"))


def test_a_name_that_both_have_must_stand_in_the_same_place():
    """A file that counts its blocks in another way: its block 0 is in the place of our block 1."""
    state = foreign(trained("resnet20"))
    for word, other in {"layer1.0": "layer1.first", "layer1.1": "layer1.0", "layer1.2": "layer1.1"}.items():
        state = {key.replace(word, other): value for key, value in state.items()}
    with pytest.raises(UserError, match="does not fit"):
        loaded(network("resnet20"), state)


def test_a_permuted_file_of_our_names_is_loaded_by_them(capsys):
    """As ever, and without a word."""
    net = trained("resnet20")
    state = dict(reversed(net.state_dict().items()))
    other = loaded(network("resnet20", seed=1).double().eval(), state)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in state.items())
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("resnet8x4", "layer2.0.downsample.0.weight", "layer2.0.shortcut.0.weight"),
        ("wrn_16_1", "block2.layer.0.bn1.running_var", "layer1.2.running_var"),
        ("mobilenetv2", "blocks.3.1.conv.3.weight", "layer3.1.residual.1.0.weight"),
        ("resnet18", "layer3.1.bn2.bias", None),
    ],
)
def test_one_shape_that_is_off_is_named(name, theirs, ours, tmp_path):
    state = foreign(trained(name))
    shape = tuple(state[theirs].shape)
    state[theirs] = torch.zeros(shape[0] + 1, *shape[1:])
    told = rf"{theirs} is \({shape[0] + 1},.*, expected \({shape[0]},[^;]*\)"
    told = f"1 of another shape .{told}" + (f" for {ours}" if ours else "")
    with pytest.raises(UserError, match=told) as caught:
        loaded(network(name), state, name)
    assert "\n" not in str(caught.value) and "chooses the architecture" in str(caught.value)
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=told):  # before the data are read
        check_network(config(name, checkpoint=str(tmp_path / "a.pth")), "teacher")


def test_other_classes_are_told(tmp_path):
    state = foreign(network("vgg8", classes=5))
    with pytest.raises(
        UserError, match=r"classifier.weight is \(5, 512\), expected \(7, 512\) for fc.weight.*classes="
    ):
        loaded(network("vgg8"), state)


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "shufflenetv2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_check_before_the_data_agrees(name, channels, tmp_path, capsys):
    """What it lets pass is loaded, whatever the images are; it says nothing itself."""
    node, image = config(name).builder, {"image_size": 32} if name == "resnet18" else {}
    net = build(node, "teacher", num_classes=CLASSES, in_channels=channels, **image)
    opt = argparse.Namespace(lr=0.05)
    torch.save({"epoch": 240, "model": foreign(net), "best_acc": np.float64(79.4), "opt": opt}, tmp_path / "a.pth")
    given = config(name, checkpoint=str(tmp_path / "a.pth"))
    check_network(given, "teacher")
    assert not capsys.readouterr().out
    half, classes = [0.5] * channels, [str(i) for i in range(CLASSES)]
    for _ in range(2):
        model = build_model(given, "teacher", classes, (channels, 32, 32), mean=half, std=half, seed=0)
    assert torch.equal(model.net.fc.weight, net.fc.weight)
    assert capsys.readouterr().out.count("taken in their order") == 1
    torch.save({"model": foreign(network("resnet14"))}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="does not fit"):
        check_network(given, "teacher")


def test_a_teacher_of_other_classes_gets_a_new_head(tmp_path):
    net = network("shufflenetv1", classes=5)
    torch.save({"model": foreign(net)}, tmp_path / "a.pth")
    given = config("shufflenetv1", checkpoint=str(tmp_path / "a.pth"))
    check_network(given, "teacher")
    model = build_model(given, "teacher", list("abc"), (3, 32, 32), mean=[0.5], std=[0.5], seed=0)
    assert "5 other classes" in model.new_head and model.info.outputs == 3
    assert torch.equal(model.net.layer3[0].reduce[0].weight, net.layer3[0].reduce[0].weight)


def test_the_student_is_taken_out_of_a_file_of_both(tmp_path):
    """As mdistiller saves its training: the distiller's state, of student, teacher and what its loss learns."""
    student, teacher = trained("resnet20"), trained("resnet56")
    parts = {"student": student, "teacher": teacher}
    state = {f"module.{role}.{key}": value for role, net in parts.items() for key, value in foreign(net).items()}
    state["module.connector.weight"] = torch.zeros(2, 2)
    for name, net in (("resnet20", student), ("resnet56", teacher)):
        assert torch.equal(
            loaded(network(name).double(), state).layer2[0].shortcut[0].weight, net.layer2[0].shortcut[0].weight
        )
    wide = {f"big.{key}": value for key, value in foreign(CifarResNet(20, 2, num_classes=CLASSES)).items()}
    beside = wide | {f"small.{key}": value for key, value in foreign(student).items()}
    assert torch.equal(loaded(network("resnet20").double(), beside).fc.weight, student.fc.weight)  # by its shapes
    both = {f"{role}.{key}": value for role in ("teacher", "student") for key, value in foreign(student).items()}
    both |= {key: value + 1 for key, value in both.items() if key.startswith("teacher.")}
    assert torch.equal(loaded(network("resnet20").double(), both).fc.weight, student.fc.weight)


def test_a_network_of_an_unknown_order_is_matched_by_name_alone():
    """Of one's own, or timm's: nothing says that it registers its modules as the file's network did."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    state = {key.replace("0.", "query.").replace("1.", "key."): value for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"4 missing .*4 unexpected"):
        loaded(net, state)
