"""Loading weights: every form that is allowed, every refusal."""

import argparse
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distillab.core.errors import UserError
from distillab.models.checkpoint import load_weights, read_weights
from distillab.training.fit import WholeCheckpoints


class Payload:
    def __reduce__(self):
        return (print, ("code was run",))


@pytest.mark.parametrize("prefix", ["", "module.", "student.net."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_allowed_forms_load(prefix, container, network, tmp_path):
    source, target = network(seed=1), network(seed=2)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    if prefix == "student.net.":  # another module of a Lightning checkpoint
        state["strategy.terms.hint.weight"] = torch.zeros(1)
    torch.save({container: state} if container else state, tmp_path / "a.pt")
    load_weights(target, read_weights(tmp_path / "a.pt")[0], "resnet8", "a.pt", key="teacher.checkpoint")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_safetensors_load(network, tmp_path):
    source, target = network(seed=1), network(seed=2)
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    load_weights(target, read_weights(tmp_path / "a.safetensors")[0], "resnet8", "a", key="teacher.checkpoint")
    assert torch.equal(target.fc.weight, source.fc.weight)


def test_code_is_refused_and_not_run(network, tmp_path, capsys):
    torch.save(network(), tmp_path / "whole.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps({"a": Payload()}))
    torch.save(network(), tmp_path / "older.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": network(), "epoch": 3}, tmp_path / "within.pt")
    for name, place in {"whole.pt": "", "older.pt": "", "within.pt": r"\[\"model\"\]"}.items():
        advice = rf"torch.load\(.*weights_only=False\){place}.state_dict\(\)"
        with pytest.raises(UserError, match=f"CifarResNet.*{advice}"):
            read_weights(tmp_path / name)
    with pytest.raises(UserError, match=r"holds no weights but a: builtins\.print"):
        read_weights(tmp_path / "code.pt")
    assert "code was run" not in capsys.readouterr().out


def test_what_a_message_advises_gives_a_file_that_loads(network, tmp_path):
    """The two lines of Python in it, run as they are, in one process for all files."""
    net, draw = network(seed=1), torch.zeros(2, 1, 8, 8)
    figures = {"epoch": 3, "best_acc": torch.tensor(79.4), "opt": argparse.Namespace(lr=0.1), "loss": np.float64(0.1)}
    for key in ("model", "state_dict", "net", "module"):
        torch.save({**figures, key: net}, tmp_path / f"{key}.pth")
    torch.save(net, tmp_path / "whole.pth")
    torch.save(nn.DataParallel(net), tmp_path / 'it\'s "old" {0}', _use_new_zipfile_serialization=False)
    torch.save({"model": net.state_dict(), "ema": network(seed=3).state_dict()}, tmp_path / "two.pth")
    torch.jit.trace(net.eval(), draw).save(tmp_path / "script.pth")
    lines, files = [], sorted(tmp_path.iterdir())
    for path in files:
        with pytest.raises(UserError, match="if you trust it") as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)
        lines.append(str(caught.value).partition("convert it in Python: ")[2])
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    written = sorted(set(tmp_path.iterdir()) - {*files})
    assert len(written) == len(files) == 8
    for path in written:
        target = network(seed=2)
        load_weights(target, read_weights(path)[0], "resnet8", str(path), key="teacher.checkpoint")
        assert all(torch.equal(value, target.state_dict()[key]) for key, value in net.state_dict().items())


def test_a_class_of_a_script_is_told_to_be_there_alone(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "__module__", "__main__")
        patch.setattr(sys.modules["__main__"], "Linear", nn.Linear, raising=False)
        torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"\(__main__.Linear\).*in the script that wrote it, convert it in Python"):
        read_weights(tmp_path / "a.pt")


def test_a_small_file_that_unpacks_to_much_is_refused_unread(tmp_path):
    """A hundred megabytes of zeros in a tenth of one; a file of torch.save holds what it is long."""
    for name in ("archive/data.pkl", "fc.weight.npy"):
        path = tmp_path / "bomb.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as part:
            for _ in range(100):
                part.write(bytes(10**6))
        with pytest.raises(UserError, match=r"bomb\.pt would fill 0\.1 GB of memory, more than 20 times its size"):
            read_weights(path)


def test_broken_files_are_one_line(network, tmp_path):
    torch.save(network().state_dict(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt").write_text("hello, I am text")
    save_file(network().state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:1000])
    for name, said in {
        "absent.pt": "there is no file",
        "cut.pt": "truncated or damaged",
        "text.pt": "is no checkpoint",
        "cut.safetensors": "truncated or damaged",
    }.items():
        with pytest.raises(UserError, match=said) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_another_architecture_and_class_count_are_told(network):
    with pytest.raises(UserError, match=r"does not fit resnet8: .* unexpected .*teacher=… .*chooses the architecture"):
        load_weights(network(), network(depth=14).state_dict(), "resnet8", "a.pt", key="teacher.checkpoint")
    with pytest.raises(UserError, match=r"fc.weight is \(7, 64\), expected \(10, 64\).*teacher.classes=\[…\]"):
        load_weights(network(), network(classes=7).state_dict(), "resnet8", "a.pt", key="teacher.checkpoint")


def test_weights_of_grey_images_for_coloured_ones_are_told():
    grey, coloured = (nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 4, 3)) for channels in (1, 3))
    said = r"0.weight is \(4, 1, 3, 3\), expected \(4, 3, 3, 3\)\); channels of images: 1 in the file, 3 in the data$"
    with pytest.raises(UserError, match=said):
        load_weights(coloured, grey.state_dict(), "net", "file", key="student.checkpoint")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    writer, file = WholeCheckpoints(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"epoch": 1}, file)

    def half(path, content):
        with path.open("wb") as opened:
            opened.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        writer.save_checkpoint({"epoch": 2}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1} and list(tmp_path.iterdir()) == [file]


def test_a_file_may_have_shared_weights_under_one_of_their_names(tmp_path):
    def tied():
        net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        net[1].weight = net[0].weight
        return net

    torch.manual_seed(0)
    kept, net = tied().state_dict(), tied()
    del kept["1.weight"]
    save_file(kept, tmp_path / "a.safetensors")
    load_weights(net, read_weights(tmp_path / "a.safetensors", "k")[0], "net", "a", key="teacher.checkpoint")
    assert torch.equal(net[1].weight, kept["0.weight"]) and net[1].weight is net[0].weight
    untied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(UserError, match="1 missing"):
        load_weights(untied, kept, "net", "a", key="teacher.checkpoint")


def refusal(target, weights):
    with pytest.raises(UserError) as error:
        load_weights(target, weights, "net", "a.pt", key="teacher.checkpoint")
    return str(error.value)


def test_advice_of_classes_is_given_for_a_whole_head_alone():
    def net(classes=3):
        return nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, classes))

    damaged = {"0.weight": torch.zeros(7, 3, 1, 1), "1.weight": torch.zeros(7), "3.weight": torch.zeros(4, 8)}
    for name, value in damaged.items():
        assert "teacher.classes" not in refusal(net(), net().state_dict() | {name: value})
    assert "teacher.classes=[…] names the checkpoint's own classes" in refusal(net(), net(4).state_dict())


def test_advice_of_channels_is_given_for_the_first_layer_alone(network):
    state = network().state_dict()
    inner = next(name for name, value in state.items() if value.ndim == 4 and value.shape[1] > 3)
    assert "channels" not in refusal(network(), state | {inner: state[inner][:, 1:]})


def test_positions_of_another_image_size_ask_for_it():
    class Patches(nn.Module):
        def __init__(self, places):
            super().__init__()
            self.pos_embed = nn.Parameter(torch.zeros(1, places, 8))

    said = refusal(Patches(17), Patches(65).state_dict())
    assert "pos_embed is (1, 65, 8), expected (1, 17, 8)" in said and "teacher.input_size=… is the side" in said


def test_a_folder_an_empty_file_and_a_pointer_are_told_as_such(tmp_path):
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match=r"pointer\.pt only points to a file of git-LFS: fetch it"):
        read_weights(tmp_path / "pointer.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UserError, match=r"empty\.pt is empty"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is a folder; student=transformers student\.path=.* reads it"):
        read_weights(tmp_path, "student.checkpoint")
