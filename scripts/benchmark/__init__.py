"""Speed and memory of distillation, against the usual loop."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """The environment of a child process: from any working folder it imports this package, and what this process does."""
    inherited = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    scripts = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys([scripts, *inherited]))}
