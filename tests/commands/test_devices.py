"""GPUs of a cell, shown with made-up ids and real processes: nobody shares one, who comes late waits, and what a dead
process held is free again."""

import os
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from distillab.commands import devices
from distillab.commands.composition import compose
from distillab.commands.invocation import parse
from distillab.core.configuration import TrainerConfig
from distillab.core.errors import UserError

IDS = ("0", "GPU-5f/1")
HOLDER = """
import os, sys
from pathlib import Path
from distillab.commands.devices import hold_devices
with hold_devices(sys.argv[2].split(","), Path(sys.argv[1]), int(sys.argv[3]), pause=0.02) as own:
    print("holds", ",".join(own), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(devices, "_own", [])
    monkeypatch.setenv(devices.VISIBLE, "")  # so that what a test leaves there goes with it
    monkeypatch.delenv(devices.VISIBLE)


@pytest.fixture
def start(tmp_path):
    """Starts a process that holds devices until its input ends."""
    processes = []

    def started(count=1):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        words = [sys.executable, "-c", HOLDER, str(tmp_path), ",".join(IDS), str(count)]
        processes.append(subprocess.Popen(words, **pipes))
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


def test_a_cell_of_two_holds_both_and_keeps_none_while_it_waits(start):
    one = start()
    assert told(one) == "0"
    both = start(2)
    assert both.stdout.readline() == "waiting for 2 GPUs: other runs hold 0\n"
    other = start()
    assert told(other) == "GPU-5f/1"  # the one that waits does not sit on it
    for process in (one, other):
        process.kill()
    assert told(both) == "0,GPU-5f/1"
    assert start().stdout.readline() == "waiting for a GPU: other runs hold 0, GPU-5f/1\n"


def test_more_devices_than_there_are_is_one_line(tmp_path):
    with (
        pytest.raises(UserError, match=r"trainer\.devices=3, and there are 2 GPUs"),
        devices.hold_devices(IDS, tmp_path, 3),
    ):
        pass


def test_a_process_takes_the_device_of_its_first_cell_again(tmp_path):
    with devices.hold_devices(("b", "a"), tmp_path) as first:
        assert first == ["b"] == [os.environ[devices.VISIBLE]]
    for _ in range(2):  # its own is the only one that it can see by now
        with devices.hold_devices(devices.visible_devices(), tmp_path) as again:
            assert again == ["b"]
    with devices.hold_devices(("a", "b"), tmp_path) as again:
        assert again == ["b"]


def test_a_failing_cell_gives_its_device_back(tmp_path, start):
    with pytest.raises(KeyError), devices.hold_devices(IDS[:1], tmp_path):
        raise KeyError
    assert told(start()) == "0"


@pytest.mark.parametrize(
    ("visible", "ids"), [("0,1", ["0", "1"]), (" 3 , GPU-x", ["3", "GPU-x"]), ("", []), ("-1", [])]
)
def test_the_environment_says_what_is_visible(visible, ids, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, visible)
    assert devices.visible_devices() == ids


TRAINER = {"accelerator": "auto", "devices": 1, "sync_batchnorm": False}
TWO = TRAINER | {"devices": 2}


def number_of(trainer):
    return devices.number_of_devices(TrainerConfig.of(trainer))


@pytest.mark.parametrize(
    ("trainer", "several", "visible", "held"),
    [
        (TRAINER, True, "4,5", "4"),
        (TRAINER | {"accelerator": "gpu"}, True, "4,5", "4"),
        (TRAINER | {"accelerator": "cpu"}, True, "4,5", None),
        (TWO, True, "4,5,6", "4,5"),
        (TWO, True, "4,5", "4,5"),
        (TWO | {"accelerator": "cpu"}, True, "4,5", None),
        (TRAINER, False, "4,5", None),
        (TRAINER, True, "4", None),  # a job of a cluster has been given its own
        (TRAINER, True, "", None),
    ],
)
def test_a_cell_beside_others_holds_its_gpus(trainer, several, visible, held, monkeypatch, tmp_path):
    monkeypatch.setenv(devices.VISIBLE, visible)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    with devices.devices_of_a_cell(TrainerConfig.of(trainer), several):
        assert os.environ[devices.VISIBLE] == (held or visible)
        assert len(list(tmp_path.glob("*/[0-9].lock"))) == len((held or "").replace(",", ""))


def test_a_slurm_job_of_two_gpus_waits_for_no_other_job(monkeypatch, tmp_path):
    """Its GPUs are its own, under numbers that every job of the machine has."""
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    with devices.devices_of_a_cell(TrainerConfig.of(TWO), True):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("trainer", "visible", "number"),
    [
        ({"devices": 1, "strategy": "auto"}, "0,1,2", 1),
        ({"devices": 2, "strategy": "ddp"}, "0,1,2", 2),
        ({"devices": "auto", "strategy": "ddp"}, "0,1,2", 3),
        ({"devices": -1, "strategy": "ddp_find_unused_parameters_true"}, "0,1,2", 3),
        ({"devices": "auto", "strategy": "auto"}, "0", 1),
        ({"devices": "auto", "strategy": "auto"}, "", 1),
        ({"devices": -1, "strategy": "auto", "accelerator": "cpu"}, "0,1,2", 1),
    ],
)
def test_all_gpus_are_a_number(trainer, visible, number, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, visible)
    assert number_of(TRAINER | trainer) == number


def test_more_devices_than_the_machine_has_and_machines_that_nobody_started(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "0")
    with pytest.raises(UserError, match=r"^trainer\.devices=2, and there are 1 GPUs; trainer\.devices=1$"):
        number_of(TWO | {"strategy": "ddp"})
    with pytest.raises(UserError, match=r"^trainer\.num_nodes=2: start the same command on every machine"):
        number_of(TRAINER | {"strategy": "ddp", "num_nodes": 2})
    assert number_of(TWO | {"strategy": "ddp", "accelerator": "cpu"}) == 2


@pytest.mark.parametrize("wrong", [0, -2, 1.5, True, None, [0, 1], "two"])
def test_a_wrong_number_of_devices_is_one_line(wrong):
    with pytest.raises(UserError, match=r"trainer\.devices must be a whole number from 1, or auto for all GPUs, got"):
        number_of(TRAINER | {"devices": wrong, "strategy": "ddp"})


@pytest.mark.parametrize("asked", [3, "auto", -1])
def test_several_devices_without_a_process_each_are_refused(asked, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "0,1,2")
    with pytest.raises(UserError, match=r"takes one: trainer=ddp trainer\.devices=3, or trainer\.devices=1$"):
        number_of(TRAINER | {"devices": asked, "strategy": "auto"})


@pytest.mark.parametrize(
    ("accelerator", "visible", "count", "refused"),
    [("cpu", "0,1", 2, True), ("auto", "", 2, True), ("auto", "0,1", 2, False), ("cpu", "", 1, False)],
)
def test_batchnorm_is_shared_by_gpus_alone(accelerator, visible, count, refused, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, visible)
    trainer = {"accelerator": accelerator, "devices": count, "sync_batchnorm": True, "strategy": "ddp"}
    if not refused:
        assert number_of(trainer) == count
        return
    with pytest.raises(UserError, match=r"runs on GPUs alone, as torch has it: trainer\.sync_batchnorm=false"):
        number_of(trainer)


def checked(*overrides, count=1):
    config = OmegaConf.to_container(compose(list(overrides)), resolve=True)
    devices.check(parse(config).on_devices(count), count)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_told_before_anything_is_trained(accelerator, monkeypatch):
    monkeypatch.setattr(devices, "_gpus", lambda: 0)
    monkeypatch.setattr(devices, "_metal", lambda: False)
    checked("trainer=cpu")
    with pytest.raises(
        UserError, match=rf"^trainer\.accelerator={accelerator}, and torch finds no .*trainer=cpu the CPU$"
    ):
        checked(f"trainer.accelerator={accelerator}")


def test_the_batch_that_does_not_divide_is_named_by_its_own_key_before_the_processes_start(tmp_path):
    """The message about a teacher's batch once named the student's."""
    checked("recipe.batch_size=64", count=2)
    with pytest.raises(
        UserError, match=r"^recipe\.batch_size=63 does not divide among 2 devices; recipe\.batch_size=64"
    ):
        checked("recipe.batch_size=63", count=2)
    with pytest.raises(
        UserError, match=r"^teacher\.recipe\.batch_size=9 does not divide among 2 devices; teacher\.recipe"
    ):
        checked("teacher.recipe.batch_size=9", count=2)
    (tmp_path / "here.pt").touch()
    checked("teacher.recipe.batch_size=9", f"teacher.checkpoint={tmp_path}/here.pt", count=2)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to .*TMPDIR=…"),
        devices.hold_devices(IDS, tmp_path / "file" / "locks"),
    ):
        pass
