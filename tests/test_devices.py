"""One GPU to a cell, shown with made-up ids and real processes: nobody shares one, who comes late waits, and what a dead
process held is free again."""

import os
import subprocess
import sys
import time

import pytest

from distillab import devices
from distillab.errors import UserError

IDS = ("0", "GPU-5f/1")
HOLDER = """
import os, sys
from pathlib import Path
from distillab.devices import hold_device
with hold_device(sys.argv[2].split(","), Path(sys.argv[1]), pause=0.02) as own:
    print("holds", own, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(devices, "_own", [])
    monkeypatch.delenv(devices.VISIBLE, raising=False)


@pytest.fixture
def start(tmp_path):
    """Starts a process that holds one of the devices until its input ends."""
    processes = []

    def started():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), ",".join(IDS)], **pipes))
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def told(process):
    """The device that a process says it holds."""
    word, *ids = process.stdout.readline().split()
    assert word == "holds" and ids[0] == ids[1]  # it sees no other
    return ids[0]


def test_each_process_has_its_own_the_next_waits_and_a_dead_ones_is_taken_over(start):
    first, second = start(), start()
    held = {told(first): first, told(second): second}
    assert set(held) == set(IDS)
    third = start()
    assert third.stdout.readline() == "waiting for a GPU: other runs hold 0, GPU-5f/1\n"
    time.sleep(0.2)  # ten looks
    assert third.poll() is None
    held["GPU-5f/1"].kill()
    assert told(third) == "GPU-5f/1"
    fourth = start()
    assert fourth.stdout.readline().startswith("waiting")
    held["0"].stdin.write("\n")  # its cell ends in order
    held["0"].stdin.flush()
    assert told(fourth) == "0"


def test_a_process_takes_the_device_of_its_first_cell_again(tmp_path):
    with devices.hold_device(("b", "a"), tmp_path) as first:
        assert first == os.environ[devices.VISIBLE] == "b"
    for _ in range(2):  # its own is the only one that it can see by now
        with devices.hold_device(devices.visible_devices(), tmp_path) as again:
            assert again == "b"
    with devices.hold_device(("a", "b"), tmp_path) as again:
        assert again == "b"


def test_a_failing_cell_gives_its_device_back(tmp_path, start):
    with pytest.raises(KeyError), devices.hold_device(IDS[:1], tmp_path):
        raise KeyError
    assert told(start()) == "0"


@pytest.mark.parametrize(
    ("visible", "ids"), [("0,1", ["0", "1"]), (" 3 , GPU-x", ["3", "GPU-x"]), ("", []), ("-1", [])]
)
def test_the_environment_says_what_is_visible(visible, ids, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, visible)
    assert devices.visible_devices() == ids


TRAINER = {"accelerator": "auto", "devices": 1}


@pytest.mark.parametrize(
    ("trainer", "several", "visible", "held"),
    [
        (TRAINER, True, "4,5", True),
        (TRAINER | {"accelerator": "gpu"}, True, "4,5", True),
        (TRAINER | {"accelerator": "cpu"}, True, "4,5", False),
        (TRAINER | {"devices": 2}, True, "4,5", False),
        (TRAINER, False, "4,5", False),
        (TRAINER, True, "4", False),  # a job of a cluster has been given its own
        (TRAINER, True, "", False),
    ],
)
def test_only_a_cell_of_one_gpu_beside_others_holds_one(trainer, several, visible, held, monkeypatch, tmp_path):
    monkeypatch.setenv(devices.VISIBLE, visible)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    with devices.device_of_a_cell(trainer, several):
        assert os.environ[devices.VISIBLE] == ("4" if held else visible)
        assert bool(list(tmp_path.iterdir())) == held


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to .*TMPDIR=…"),
        devices.hold_device(IDS, tmp_path / "file" / "locks"),
    ):
        pass
