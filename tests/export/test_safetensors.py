"""The exported student: tensors that share memory, and what a file of others may name."""

import json
import os
import resource

import pytest
import torch
from helpers.fits import SHAPE, make_images
from helpers.small_run import run
from safetensors.torch import save_file
from torch import nn

from distillab.core.errors import UserError
from distillab.export.safetensors import check_export, load_student, save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.image_model import ImageModel


class Shared(nn.Module):
    """One convolution under two names, tied layers, a view of a tensor, and a buffer that is a parameter's memory."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.middle = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.middle
        self.tied = nn.Conv2d(4, 4, 3, padding=1)
        self.tied.weight = self.middle.weight
        self.part = nn.Parameter(self.stem.bias.data[:2])
        self.register_buffer("alias", self.stem.weight.data)
        self.register_buffer("turned", self.middle.weight.data.transpose(2, 3))
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        x = self.tied(self.again(self.middle(self.stem(x)).relu()).relu())
        return self.fc(x.mean((2, 3))) + self.part.sum() + self.alias.sum() + self.turned[0, 0, 0, 1]


class Stateful(Shared):
    """A network with a state that is no tensor."""

    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        pass


def test_weights_that_share_memory_are_exported_and_load_again(tmp_path):
    model, other = (ImageModel(Shared(seed), SHAPE).eval() for seed in (1, 2))
    check_export(model, "student")
    save_model(model, tmp_path / "a.safetensors", {}, ["a"])
    load_weights(other.net, read_weights(tmp_path / "a.safetensors")[0], "shared", "a", key="student.checkpoint")
    assert other.net.again is other.net.middle and not torch.equal(Shared(2)(make_images()), other.net(make_images()))
    assert torch.equal(model(make_images()), other(make_images()))


def test_a_file_that_reads_back_otherwise_is_refused_and_not_kept(tmp_path, monkeypatch):
    model = ImageModel(Shared(), SHAPE).eval()
    model.net.fc.bias.data[0] = float("nan")  # equal bits are enough
    save_model(model, tmp_path / "good.safetensors", {}, ["a"])

    def damaged(weights, path, metadata):
        save_file(weights | {"fc.bias": weights["fc.bias"].nextafter(torch.tensor(9.0))}, path, metadata)

    monkeypatch.setattr("safetensors.torch.save_file", damaged)
    with pytest.raises(UserError, match=r"bad.safetensors: fc.bias is read back otherwise"):
        save_model(model, tmp_path / "bad.safetensors", {}, ["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["good.safetensors"]


def test_a_student_of_a_file_with_another_order_is_loaded_with_it(tmp_path):
    order, classes = [3, 0, 2, 1, 9, 8, 7, 4, 5, 6], [f"class {number}" for number in range(10)]
    model = ImageModel(Shared(), SHAPE, class_order=order).eval()
    save_model(model, tmp_path / "student.safetensors", {"classes": None}, classes)
    named = read_weights(tmp_path / "student.safetensors")[1].classes
    assert [named.index(name) for name in classes] == order  # the output that means a class has its name
    save_model(model, tmp_path / "given.safetensors", {"classes": list("abc")}, classes)
    assert read_weights(tmp_path / "given.safetensors")[1].classes == list("abc")


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_what_cannot_be_exported_is_told_before_training(tmp_path, role):
    """The teacher too, which is kept in the store once it is trained."""
    with pytest.raises(
        UserError, match=rf"{role}: Stateful cannot be exported \(_extra_state of its state is no tensor"
    ):
        run(tmp_path, f"{role}=custom", f"{role}._target_=test_safetensors.Stateful")
    net = Shared(1)
    net.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(UserError, match="cannot be exported"):
        check_export(ImageModel(net, SHAPE), role)


def exported(path, **about):
    """A file whose metadata say this."""
    save_file({"weight": torch.zeros(1)}, path, metadata={"distillab": json.dumps(about)})
    return path


FROM_A_FILE = {"classes": ["a", "b"], "mean": [0.5], "std": [0.5], "input_shape": [1, 8, 8]}
CALLED = [
    ("os.system", {"command": "touch was_run"}),
    ("builtins.eval", {"source": "open('was_run', 'w')"}),
    ("distillab.commands.steps.Path.touch", {"self": "was_run"}),
    ("distillab.training.module.Distillation", {"strategy": {"a": {"_target_": "os.system", "command": "touch was_run"}}}),
    ("distillab.core.files.write_json", {"path": "was_run", "content": 1}),
    ("torchvision.models._api.os.system", {"command": "touch was_run"}),
    ("distillab.strategies.simkd.ProjectedStudent.load", {"file": "a.safetensors"}),
    ("torch.nn.Linear", {"in_features": 1, "out_features": 1}),
    ("test_safetensors.Shared", {"seed": 0}),
    (["os.system"], {}),
    ({"_target_": "os.system"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "arguments"), CALLED)
def test_a_file_names_no_code_to_run(tmp_path, monkeypatch, target, arguments):
    monkeypatch.chdir(tmp_path)
    file = exported(tmp_path / "a.safetensors", model={"_target_": target, **arguments}, **FROM_A_FILE)
    with pytest.raises(UserError, match=r"is not called: only networks of distillab, .*load_student\(") as caught:
        load_student(file)
    assert "\n" not in str(caught.value) and not (tmp_path / "was_run").exists()


def test_what_is_shipped_names_no_code_either(tmp_path):
    resnet = {"_target_": "distillab.models.zoo.cifar_resnet.CifarResNet", "depth": 8}
    for target, said in (("os.system", "is not called"), ("distillab.strategies.simkd.SimKD", "has no load")):
        file = exported(tmp_path / "a.safetensors", model=resnet, shipped={"_target_": target}, **FROM_A_FILE)
        with pytest.raises(UserError, match=said):
            load_student(file)


@pytest.mark.parametrize(
    "about",
    [{"mean": "grey"}, {"mean": [None]}, {"std": [0.0]}, {"classes": 3}, {"model": []}, {"input_size": "large"},
     {"input_size": -1}, {"input_shape": [1.5]}, {"name": 3}, {"shipped": 1}, {"classes": [None]}],
)  # fmt: skip
def test_metadata_of_a_wrong_type_is_one_line(tmp_path, about):
    """Of a teacher's file too, whose normalisation would be another one."""
    file = exported(tmp_path / "a.safetensors", **about)
    with pytest.raises(UserError, match=f"metadata that distillab did not write .*{next(iter(about))}") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_file_without_metadata_is_no_student(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not say what its network is"):
        load_student(tmp_path / "a.safetensors")


def test_no_room_for_the_weights_is_the_error_of_a_disk_and_leaves_nothing(network, tmp_path):
    """The library that writes them has an error of its own, which nothing else takes for one."""
    model, limits = ImageModel(network(), SHAPE, "resnet8"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # a real refusal of the system
    try:
        with pytest.raises(OSError, match="File too large"):
            save_model(model, tmp_path / "model.safetensors", {}, list("abcdefghij"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
