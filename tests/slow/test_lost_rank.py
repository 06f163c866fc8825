"""One of two processes (gloo, on CPU) dies: the other ends too, the command does not end well, and given again it goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORDS = [
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "student=resnet8",
    "teacher=resnet8",
    "strategy=kd",
]
WORDS += ["logger=none", "baseline=false", "data.samples=640", "recipe.epochs=12", "teacher.recipe.epochs=4"]
# The line at which a process dies, and which one.
DEATHS = [("teacher resnet8  epoch 1/4", 1), ("teacher resnet8  epoch 2/4", 0)]
DEATHS += [(f"resnet8 kd  epoch {epoch}/12", rank) for epoch, rank in ((2, 1), (5, 0), (8, 1))]


def start(folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-u", str(Path(__file__).parents[2] / "train.py"), *WORDS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"SURVIVES": str(folder)}, **pipes)


def ranks(folder):
    """The processes of the run in a folder, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            about = dict(word.split("=", 1) for word in path.read_text(errors="replace").split("\0") if "=" in word)
        except OSError:
            continue
        if about.get("SURVIVES") == str(folder) and "RANK" in about:
            found[int(about["RANK"])] = int(path.parent.name)
    return found


def weights(folder):
    (result,) = folder.glob("runs/digits/*/result.json")
    assert json.loads(result.read_text())["status"] == "finished"
    return load_file(result.with_name("student.safetensors"))


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_the_same_command_goes_on(tmp_path):
    whole = start(tmp_path / "whole")
    said = whole.communicate(timeout=900)[0]
    assert whole.returncode == 0, said
    for line, rank in DEATHS:
        run, said = start(tmp_path / "broken"), []
        for told in run.stdout:
            said.append(told)
            if line in told:
                os.kill(ranks(tmp_path / "broken")[rank], signal.SIGKILL)
                break
        said += [run.communicate(timeout=300)[0]]
        assert run.returncode not in (0, None), "".join(said)
        assert line in "".join(said) and not ranks(tmp_path / "broken"), "".join(said)
    again = start(tmp_path / "broken")
    said = again.communicate(timeout=900)[0]
    assert again.returncode == 0 and "goes on from" in said, said
    found = weights(tmp_path / "broken")
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(found[name], value), name
