"""What a `_target_` may be: a network's class or a function that makes one, and nothing of Python itself."""

import functools
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision import models

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.export.safetensors import save_model
from distillab.models.build import build_model, check_network
from distillab.models.torchvision import torchvision_classifier

called = []


class Net(nn.Module):
    """A classifier of three classes."""

    def __init__(self, num_classes, width=4):
        super().__init__()
        self.layer1, self.fc = nn.Conv2d(1, width, 3), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.layer1(x).mean((2, 3)))

    @classmethod
    def wide(cls, num_classes):
        return cls(num_classes, 8)


class NoNet:
    """A class that is no network."""

    def __init__(self):
        called.append(type(self))


def words(num_classes) -> str:
    called.append(words)
    return "words"


def unsaid(num_classes):
    return "words"


wide = functools.partial(Net, width=8)
system = functools.partial(__import__("os").system, "touch was_run")


def made(target, **arguments):
    config = ModelConfig.of({"_target_": target, **arguments}, "student")
    return build_model(config, "student", list("abc"), (1, 8, 8), mean=[0.5], std=[0.5], seed=0)


def test_classes_functions_and_partials_of_the_user_make_networks():
    assert {name: made(f"test_builder.{name}").net.fc.in_features for name in ("Net", "Net.wide", "wide")} == {
        "Net": 4, "Net.wide": 8, "wide": 8
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", "belongs to Python itself"),
        ("builtins.exec", "belongs to Python itself"),
        ("print", "cannot import"),
        ("subprocess.Popen", "belongs to Python itself"),
        ("torch.os.system", "belongs to Python itself"),
        ("test_builder.system", "belongs to Python itself"),
        ("test_builder.NoNet", "is no torch.nn.Module"),
        ("test_builder.words", "returns str, not a torch.nn.Module"),
        ("test_builder.unsaid", "made a str, not a torch.nn.Module"),
        ("test_builder.Nett", "no attribute 'Nett'; did you mean \"Net\"?"),
        ("test_builder.called", "is not a class or a function"),
        ("nowhere.Net", "cannot import \"nowhere.Net\" (No module named 'nowhere')"),
        ("broken.net.Net", "No module named 'what_it_needs'"),
        ("ends.Net", 'cannot import "ends.Net" (3)'),
        ("test_builder..Net", "cannot import"),
        (3, "cannot import"),
    ],
)
def test_anything_else_is_refused_in_one_line_before_it_is_called(tmp_path, monkeypatch, caplog, target, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "net.py").write_text("import what_it_needs")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(3)")
    with pytest.raises(UserError) as caught:
        made(target)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "student._target_" in str(caught.value)
    assert not called and not caplog.records and not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(("key", "values"), [("mean", [0.1, 0.2]), ("std", [0.0]), ("mean", ["grey"])])
def test_a_normalisation_that_fits_no_image_is_one_line(key, values):
    with pytest.raises(UserError, match=rf"student\.{key}(\.0)? must"):
        made("test_builder.Net", **{key: values})


def test_grey_images_in_a_network_of_three_channels_keep_its_three_numbers():
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    model = made("torchvision.models.resnet18", num_classes=3, **own)
    assert model.repeats == 3 and model.mean.flatten().tolist() == pytest.approx(own["mean"])


def test_a_misspelt_key_of_the_role_is_recognised():
    said = r'student.stags: .*has no argument "stags"; did you mean "stages"\?'
    with pytest.raises(UserError, match=said):
        made("test_builder.Net", stags=["layer1"])
    with pytest.raises(UserError, match='did you mean "width"'):
        made("test_builder.Net", widht=3)


def described(architecture, **more):
    node = {"_target_": "distillab.models.torchvision.torchvision_classifier", "stem": "auto"}
    return ModelConfig.of(node | {"architecture": architecture} | more, "teacher")


def test_the_class_count_of_a_checkpoint_is_compared_before_the_data_are_read(tmp_path):
    """With the names that are given, else those in the file, else the number that the data expect; else later."""
    torch.save(torchvision_classifier("mobilenet_v3_small", 7).state_dict(), file := tmp_path / "seven.pt")
    own = {"checkpoint": str(file)}
    named = {"classes": list("abcde")}
    for more, expected, role in ((named, None, "teacher"), (named, 7, "teacher"), (named, 5, "student")):
        with pytest.raises(UserError, match=rf"\(7, 1024\), expected \(5, 1024\)\); {role}.classes=\[…\] names"):
            check_network(replace(described("mobilenet_v3_small", **own, **more), expected_classes=expected), role)
    for more, expected in (({"classes": list("abcdefg")}, 5), ({}, 7), ({}, None), ({}, 5)):  # the last gets a new head
        for role in ("teacher", "student"):
            check_network(replace(described("mobilenet_v3_small", **own, **more), expected_classes=expected), role)
    save_model(made("test_builder.Net"), tmp_path / "own.safetensors", {}, list("abc"))
    exported = ModelConfig.of(
        {"_target_": "test_builder.Net", "checkpoint": str(tmp_path / "own.safetensors")}, "teacher"
    )
    check_network(replace(exported, expected_classes=2), "teacher")  # its metadata name its classes


def test_a_checkpoint_with_torchvisions_first_layer_is_told_of_its_stem(tmp_path):
    torch.save(models.resnet18(num_classes=3).state_dict(), file := tmp_path / "own.pt")
    shape = {"mean": [0.5] * 3, "std": [0.5] * 3, "seed": 0}
    given = {"classes": list("abc"), "input_shape": (3, 32, 32), **shape}
    with pytest.raises(UserError, match=r"\(64, 3, 7, 7\), expected \(64, 3, 3, 3\)\); teacher.stem=native if"):
        build_model(described("resnet18", checkpoint=str(file)), "teacher", **given)
    build_model(described("resnet18", checkpoint=str(file), stem="native"), "teacher", **given)


@pytest.mark.parametrize(
    ("architecture", "more", "said"),
    [
        ("resnet18", {"gropus": 2}, r'teacher.gropus: resnet18 has no argument "gropus"; did you mean "groups"\?'),
        ("resnet18", {"stags": ["layer1"]}, r'did you mean "stages"\?; remove it with ~teacher.stags'),
        ("resnet19", {}, 'teacher: torchvision has no classifier "resnet19"'),
        ("mobilenet_v3_small", {"dropout": 0.1}, None),
        ("vit_b_16", {"attention_dropout": 0.1}, None),
    ],
)
def test_what_a_builder_passes_on_is_checked_before_the_data_are_read(architecture, more, said):
    if said is None:
        return check_network(described(architecture, **more), "teacher")
    with pytest.raises(UserError, match=said):
        check_network(described(architecture, **more), "teacher")


def test_one_stage_needs_no_list():
    assert [stage.name for stage in made("test_builder.Net", stages="layer1").info.stages] == ["layer1"]


def test_the_users_folder_comes_after_python_itself(tmp_path):
    """In the command, and in the processes that a run of several devices starts."""
    import subprocess

    (tmp_path / "statistics.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "my_net.py").write_text("class Net: pass")
    code = """
        import sys
        from distillab.commands import cli
        cli._job = lambda: __import__("my_net") and __import__("statistics").mean([1])
        cli.main()
        seen = []
        cli.subprocess.Popen = lambda words, env, **_: seen.append(env) or type("Done", (), {"wait": lambda self: 0, "send_signal": lambda self, number: None})()
        cli._torchrun(2, [], None)
        assert seen[0]["PYTHONSAFEPATH"] == "1"
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
