"""Checkpoints of all kinds are read, or named for what they are, and no code in them is run."""

import argparse
import copyreg
import functools
import os
import pathlib
import pickle
import random
import time
import zipfile
from collections import defaultdict

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from distillab.core.errors import UserError
from distillab.models.checkpoint import load_weights, read_weights

EXTENSION = 200  # a number that the test registers for os.system


class Own:
    """A class of the user's, with state."""

    def __init__(self):
        self.numbers = [1, 2]


class OwnDict(dict):
    """A mapping of the user's."""


BESIDE = {
    "arguments": argparse.Namespace(lr=0.1),
    "best": np.float64(0.9),
    "config": OmegaConf.create({"a": {"b": [1, 2]}}),
    "file": pathlib.Path("a/b"),
    "made": functools.partial(print, 3),
    "own": Own(),
    "several": [defaultdict(list, {"a": [1]}), {1, 2}, torch.float32, torch.device("cpu"), np.zeros(3)],
}


def save(content, path, older, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=not older, pickle_protocol=protocol)
    return path


def loaded(network, path):
    target = network(seed=2)
    load_weights(target, read_weights(path)[0], "resnet8", str(path), key="teacher.checkpoint")
    return target.state_dict()


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("protocol", [2, 5])
def test_weights_are_read_whatever_stands_beside_them(network, tmp_path, older, protocol):
    state = network(seed=1).state_dict()
    path = save({"state_dict": OwnDict(state), **BESIDE}, tmp_path / "a.pt", older, protocol)
    assert all(torch.equal(value, state[key]) for key, value in loaded(network, path).items())


FORMS = {
    "ema": lambda state: {"ema": state, "epoch": 3},
    "params beside a number": lambda state: {"params": state, "best": 0.9},
    "two mappings deep": lambda state: {"model": {"state_dict": state}},
    "an unknown name": lambda state: {"resnet": state, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}},
    "a loss's weights beside": lambda state: {"net": state, "criterion": {"weight": torch.zeros(3)}},
    "compiled": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "compiled within": lambda state: {k.replace("layer1.", "layer1._orig_mod."): v for k, v in state.items()},
    "profiled": lambda state: {**state, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    "parameters": lambda state: {k: torch.nn.Parameter(v, requires_grad=False) for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_leave_no_choice_are_taken(network, tmp_path, form):
    state = network(seed=1).state_dict()
    for older in (False, True):
        found = loaded(network, save(FORMS[form](state), tmp_path / "a.pt", older))
        assert all(torch.equal(value, state[key]) for key, value in found.items())


def test_arrays_by_name_and_plain_pickles_are_taken(network, tmp_path):
    state = network(seed=1).state_dict()
    np.savez(tmp_path / "a.npz", **{key: value.numpy() for key, value in state.items()})
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(state))
    for name in ("a.npz", "a.pkl"):
        assert all(torch.equal(value, state[key]) for key, value in loaded(network, tmp_path / name).items())


def test_what_cannot_be_taken_is_named_in_one_line(network, tmp_path):
    state = network().state_dict()
    other = {key: value + 1 for key, value in state.items()}
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    for name, content in {
        "two.pt": {"model": state, "ema": other},
        "best.pt": {"params": state, "best": other},
        "arguments.pt": {"arguments": BESIDE["arguments"], "epoch": 3},
        "tensor.pt": torch.zeros(2),
        "list.pt": [torch.zeros(2)],
        "empty.pt": {},
    }.items():
        torch.save(content, tmp_path / name)
    for name, said in {
        "script.pt": r"TorchScript program.*torch.jit.load",
        "zip.pt": "zip file and no checkpoint",
        "two.pt": r'several sets of weights \(model, ema\).*\["model"\]',
        "best.pt": r'several sets of weights \(params, best\).*\["params"\]',
        "arguments.pt": "no weights but arguments: argparse.Namespace, epoch: int",
        "tensor.pt": "one tensor without a name",
        "list.pt": "no weights but list",
        "empty.pt": "holds nothing",
    }.items():
        with pytest.raises(UserError, match=f"teacher.checkpoint: .*{said}") as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)


def opcodes(command):
    """Pickles that have a plain unpickler call os.system, each by another opcode."""
    text = b"X" + len(command).to_bytes(4, "little") + command.encode()
    system, state = b"cos\nsystem\n", b"}X\x01\x00\x00\x00a" + text + b"s"
    return {
        "REDUCE": b"\x80\x02" + system + text + b"\x85R.",
        "INST": b"\x80\x02(" + text + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(" + system + text + b"o.",
        "NEWOBJ": b"\x80\x02" + system + text + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + system + text + b"\x85}\x92.",
        "BUILD": b"\x80\x02" + system + state + b"b.",
        "EXT1": b"\x80\x02\x82" + bytes([EXTENSION]) + text + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "of a builder": b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + state + b"b" + text + b"\x85R.",
        "by getattr": b"\x80\x02cbuiltins\ngetattr\ncos\nX\x06\x00\x00\x00system\x86R" + text + b"\x85R.",
    }


def test_no_opcode_runs_code(tmp_path, monkeypatch):
    """As a plain pickle, within torch's zip file and within its older format; the number of an extension too."""
    proof = tmp_path / "was_run"
    copyreg.add_extension("posix", "system", EXTENSION)
    copyreg._extension_cache[EXTENSION] = os.system  # as if an honest pickle had looked it up before
    try:
        for name, code in opcodes(f"touch {proof}").items():
            if name == "REDUCE":  # it does run elsewhere
                pickle.loads(code)  # noqa: S301 - what this test shows
                assert proof.exists()
                proof.unlink()
            head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
            (tmp_path / "plain.pt").write_bytes(code)
            (tmp_path / "older.pt").write_bytes(b"".join([*head, code, pickle.dumps([], 2)]))
            with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
                archive.writestr("a/data.pkl", code)
            for file in ("plain.pt", "older.pt", "zip.pt"):
                with pytest.raises(UserError):
                    read_weights(tmp_path / file)
                assert not proof.exists(), (name, file)
    finally:
        copyreg.remove_extension("posix", "system", EXTENSION)


def damaged(content, draw):
    """The content with a few bits turned, bytes exchanged, or its end cut off."""
    broken = bytearray(content)
    kind = draw.choice(("bits", "bytes", "cut", "head"))
    if kind == "cut":
        return bytes(broken[: draw.randrange(len(broken))])
    for _ in range(draw.choice((1, 3, 20))):
        place = draw.randrange(len(broken) if kind != "head" else min(400, len(broken)))
        if kind == "bytes":
            other = draw.randrange(len(broken))
            broken[place], broken[other] = broken[other], broken[place]
        else:
            broken[place] ^= 1 << draw.randrange(8)
    return bytes(broken)


@pytest.mark.parametrize("kind", ["zip", "older", "safetensors", "npz"])
def test_a_damaged_file_loads_or_is_refused_in_one_line(tmp_path, kind):
    """300 files, the same ones every time."""
    torch.manual_seed(0)
    net, path, draw = torch.nn.Linear(7, 3), tmp_path / "a.file", random.Random(0)
    state, refused = net.state_dict(), 0
    if kind == "safetensors":
        save_file(state, path, metadata={"distillab": '{"mean": [0.5], "classes": ["a"]}'})
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), **{key: value.numpy() for key, value in state.items()})
        path = path.with_suffix(".npz")
    else:
        save({"state_dict": state, "arguments": BESIDE["arguments"]}, path, kind == "older")
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(damaged(whole, draw))
        try:
            load_weights(net, read_weights(path)[0], "linear", str(path), key="teacher.checkpoint")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 100


def test_a_size_that_a_damaged_file_claims_takes_no_memory(tmp_path):
    started = time.perf_counter()
    for code in (b"\x80\x05\x96", b"\x80\x04\x8e"):  # of a bytearray, and of bytes
        (tmp_path / "a.pt").write_bytes(code + (1 << 33).to_bytes(8, "little") + b"a.")
        with pytest.raises(UserError, match="truncated or damaged"):
            read_weights(tmp_path / "a.pt")
    assert time.perf_counter() - started < 1  # 8 GB take seconds to fill


WRONG = {
    "complex": lambda value: value.to(torch.complex64),
    "int8": lambda value: value.to(torch.int8),
    "bool": lambda value: value.bool(),
    "NaN": lambda value: value * float("nan"),
    "inf": lambda value: value + float("inf"),
    "too large": lambda value: value.double() + 1e300,
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_no_training_gave_are_blamed_on_their_file(network, kind):
    """Not on the learning rate, hours later."""
    state = network().state_dict()
    state["fc.weight"] = WRONG[kind](state["fc.weight"])
    said = r"teacher.checkpoint: t.pt holds 1 tensor .*fc.weight.*choose another file with teacher.checkpoint=…"
    with pytest.raises(UserError, match=said):
        load_weights(network(), state, "resnet8", "t.pt", key="teacher.checkpoint")


def test_half_precision_and_a_masks_infinity_are_no_fault(network):
    target, mask = network(seed=2), torch.full((3,), -torch.inf)
    target.register_buffer("mask", mask.clone())
    state = {key: value.half() if value.is_floating_point() else value for key, value in network().state_dict().items()}
    load_weights(target, state | {"mask": mask}, "resnet8", "t.pt", key="teacher.checkpoint")
    assert torch.equal(target.fc.weight, network().fc.weight.half().float())
