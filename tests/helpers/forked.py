"""The command in forks of one process that has the imports: started at once, and killed wherever a test wants it."""

import fnmatch
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

SERVER = get_context("forkserver")
PRELOAD = [f"distillab.{name}" for name in (
    "commands.cli", "commands.steps", "commands.tuning.page", "data.images.sources", "data.images.strong", "models.zoo.cifar_resnet",
    "schemes.offline", "strategies.ce", "strategies.kd", "teachers.sharded",
)] + ["joblib", "pandas", "safetensors.torch", "sklearn.datasets", "scipy.stats", "torchvision.transforms.v2"]  # fmt: skip

_streams: list = []


def start(folder: Path, words: list[str], *hooks: Callable[[], None]):
    """A process that runs `train.py` with these words in a folder, after the hooks; what it says is added to said.txt.

    It has `pid`, `exitcode` (negative for a signal) and `join`.
    """
    SERVER.set_forkserver_preload(PRELOAD)
    folder.mkdir(parents=True, exist_ok=True)
    process = SERVER.Process(target=_train, args=(folder, words, hooks), daemon=False)
    process.start()
    return process


def ended(folder: Path, words: list[str], *hooks: Callable[[], None], seconds: float = 300) -> int:
    """The exit code of the command once it has ended."""
    process = start(folder, words, *hooks)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{words} had not ended after {seconds} s: {said(folder)}")
    return process.exitcode


def said(folder: Path) -> str:
    """What all commands in a folder have printed."""
    return (folder / "said.txt").read_text(encoding="utf-8", errors="replace")


def _train(folder: Path, words: list[str], hooks: tuple[Callable[[], None], ...]) -> None:
    os.chdir(folder)
    with open("said.txt", "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    _streams.extend((sys.stdout, sys.stderr))  # whose end would close the descriptors
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server ignores Ctrl-C
        signal.signal(number, signal.SIG_DFL)
    for hook in hooks:
        hook()
    from distillab.commands import cli

    sys.argv = ["train.py", *words]
    cli.main()


class KillAtWrite:
    """A hook: SIGKILL at the n-th file of a name, `half` written, whole but not `before` its place, or `after` it took it."""

    def __init__(self, name: str, when: str, count: int = 1) -> None:
        self.name, self.when, self.count = name, when, count

    def __call__(self) -> None:
        self.replace = os.replace
        os.replace = self._replace

    def _replace(self, source, target, **options) -> None:
        self.count -= fnmatch.fnmatch(Path(target).name, self.name)
        last = self.count == 0 and fnmatch.fnmatch(Path(target).name, self.name)
        if last and self.when != "after":
            if self.when == "half":
                os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(source, target, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)


class Unmeasured:
    """A hook: no timings, tables and plots, which take a second each."""

    def __call__(self) -> None:
        from helpers.small_run import unmeasured

        self.patches = unmeasured()
        self.patches.__enter__()
