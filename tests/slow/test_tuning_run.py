"""Slow: a tuning from the command to the page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_real_tuning_from_the_command_to_the_page(tmp_path):
    entry = str(Path(__file__).parents[2] / "train.py")
    words = [
        "sweep=tune",
        "strategy=kd",
        "hydra.sweeper.trials=2",
        "debug=quick",
        "student=resnet8",
        "teacher=resnet20",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    for cells in (4, 0):
        command = [sys.executable, entry, *words, "hydra.sweeper.space={recipe.lr:[0.001,0.01,log]}"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = max((tmp_path / "runs" / "sweeps").iterdir())
        assert len(list(folder.glob("cells/*.json"))) == cells
        page = (folder / "tune.md").read_text()
        assert "| none | 2 |" in page and "| kd | 2 |" in page
        assert page.count("train.py sweep=seeds") == 2 and "best of each" in done.stdout
