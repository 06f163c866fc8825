"""The command, stopped in the middle and given again, or given twice at once: the unbroken run's weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

EPOCHS = 120  # a busy machine takes its time to see the third of them
WORDS = ["student=resnet8", "teacher=resnet8", "strategy=[kd,hint]", "logger=none", "baseline=false"]
WORDS += [f"recipe.epochs={EPOCHS}", "teacher.recipe.epochs=1", "data.samples=640"]


def start(folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-u", str(Path(__file__).parents[2] / "train.py"), *WORDS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, **pipes)


def student(folder):
    result = json.loads(next(folder.glob("runs/digits/*/result.json")).read_text())
    return result, load_file(next(folder.glob("runs/digits/*/student.safetensors")))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    run = start(folder)
    assert run.communicate()[1] is not None and run.returncode == 0
    return student(folder)[1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_command_goes_on(how, tmp_path, unbroken):
    run = start(tmp_path)
    for line in run.stdout:
        if f"epoch 3/{EPOCHS}" in line:
            run.send_signal(how)
            break
    rest, errors = run.communicate()
    assert f"epoch {EPOCHS}/{EPOCHS}" not in rest, "it was stopped too late to tell anything"
    assert not list(tmp_path.glob("runs/digits/*/result.json"))
    if how != signal.SIGKILL:
        assert run.returncode == 128 + how
        assert "the same command goes on" in errors and "strategy=[kd,hint]" in errors
    again = start(tmp_path)
    out, errors = again.communicate()
    assert again.returncode == 0, errors
    assert "goes on from" in out and f"epoch 2/{EPOCHS}" not in out
    result, weights = student(tmp_path)
    assert result["student"]["training"]["resumed"] and result["student"]["training"]["epochs"] == EPOCHS
    assert weights.keys() == unbroken.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, unbroken[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("line", ["trained here, unless", "(trained here)", f"epoch {EPOCHS}/{EPOCHS}"])
def test_a_signal_outside_a_fit_stops_too(line, tmp_path):
    """Once the first fit was over, SIGTERM was swallowed: the handler of its dead trainer had been put back."""
    run = start(tmp_path)
    for said in run.stdout:
        if line in said:
            run.send_signal(signal.SIGTERM)
            break
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 143 and "the same command goes on" in errors
    assert not list(tmp_path.glob("runs/digits/*/result.json"))


@pytest.mark.slow
def test_two_sweeps_started_at_once_share_one_store(tmp_path):
    words = ["student=resnet8", "teacher=resnet8", "logger=none", "data.samples=640", "recipe.epochs=2"]
    command = [sys.executable, str(Path(__file__).parents[2] / "train.py"), "-m", "strategy=kd,dkd,hint", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in range(2)]
    for sweep, (out, errors) in zip(both, [sweep.communicate() for sweep in both], strict=True):
        assert sweep.returncode == 0, out + errors
        assert "damaged" not in errors
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/digits/*/result.json")]
    assert sorted(result["strategy"] for result in results) == ["dkd", "hint", "kd"]
    assert len({result["teacher"]["metrics"]["top1"] for result in results}) == 1
    # A teacher, the student alone, and the student alone for equal compute, each once.
    assert len(list(tmp_path.glob("store/networks/*/record.json"))) == 3
    assert len((tmp_path / "runs" / "leaderboard.csv").read_text().splitlines()) == 4
