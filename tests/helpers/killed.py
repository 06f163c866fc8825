"""A small run that is killed and given again, beside the one that nothing broke."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers import forked

WORDS = ["student=resnet8", "teacher=resnet8", "strategy=kd", "logger=none", "baseline=false", "data.samples=64"]
WORDS += ["recipe.epochs=3", "teacher.recipe.epochs=2", "recipe.batch_size=16", "teacher.recipe.batch_size=16"]
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Left:
    """What a run has left in its folder: its networks' weights, its figure."""

    weights: dict[str, torch.Tensor]
    score: float

    @classmethod
    def of(cls, folder: Path) -> "Left":
        """Read it; raises where anything is not whole."""
        (result,) = (json.loads(path.read_text()) for path in folder.glob("runs/digits/*/result.json"))
        assert result["status"] == "finished"
        networks = [
            *folder.glob("runs/digits/*/student.safetensors"),
            *folder.glob("store/networks/*/model.safetensors"),
        ]
        assert len(networks) == 2
        weights = {f"{path.name} {name}": value for path in networks for name, value in load_file(path).items()}
        return cls(weights, result["primary"]["value"])

    def assert_is(self, other: "Left") -> None:
        """Bit for bit."""
        assert self.score == other.score and self.weights.keys() == other.weights.keys()
        for name, value in self.weights.items():
            assert torch.equal(value, other.weights[name]), name


def cpu_seconds(pid: int) -> float | None:
    """Of a process that is alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / TICK


def wait_for(process, seconds: float) -> float:
    """Wait until a process has used so much of a processor, or has ended; the seconds that it has used."""
    used = 0.0
    while process.is_alive() and (now := cpu_seconds(process.pid)) is not None and (used := now) < seconds:
        time.sleep(0.005)
    return used


def stopped_at(place: Path, share: float, took: float, number: int) -> tuple[Path, int, float]:
    """A run that got a signal after a share of the processor's time that an unbroken one took, and again sooner if it had ended.

    Its folder below `place`, its exit code, and the seconds between the signal and its end.
    """
    while True:
        process = forked.start(folder := place / f"{share:.3f}", WORDS, forked.Unmeasured())
        wait_for(process, share * took)
        {signal.SIGKILL: process.kill, signal.SIGTERM: process.terminate}[number]()
        began = time.monotonic()
        process.join(300)
        if process.exitcode:
            return folder, process.exitcode, time.monotonic() - began
        share *= 0.7


def unbroken(folder: Path) -> tuple[Left, float]:
    """What a run leaves that nothing breaks, and the seconds of a processor that it took."""
    process = forked.start(folder, WORDS, forked.Unmeasured())
    took = wait_for(process, 10_000)
    process.join(60)
    assert process.exitcode == 0, forked.said(folder)
    return Left.of(folder), took


def goes_on(folder: Path, words: list[str] = WORDS) -> None:
    """Give the command again; it must end well, and find nothing damaged."""
    code = forked.ended(folder, words, forked.Unmeasured())
    said = forked.said(folder)
    assert code == 0, said
    for word in ("damaged", "cannot be read", "Traceback", "error"):
        assert word not in said, said
