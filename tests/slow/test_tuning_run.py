"""Slow: a tuning from the command to the page."""

import json
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
        "hydra.sweeper.fresh_seeds=2",
        "debug=quick",
        "student=resnet8",
        "teacher=resnet20",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    for again in (False, True):
        command = [sys.executable, entry, *words, "hydra.sweeper.space={recipe.lr:[0.001,0.01,log]}"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = max((tmp_path / "runs" / "sweeps").iterdir())
        cells = [json.loads(path.read_text()) for path in folder.glob("cells/*.json")]
        trials = ["sweep=tune" in cell["overrides"] for cell in cells]
        # Of each method its own numbers on two seeds, and the chosen ones where they are others.
        assert not cells if again else sum(trials) == 4 and len(cells) in (8, 10, 12)
        assert not any("error" in cell for cell in cells)
        page = (folder / "tune.md").read_text()
        assert "| none | 2 |" in page and "| kd | 2 |" in page
        assert page.count("train.py -m ") == 2 and page.count("baseline=false seed=1,2") == 2
        assert "with seeds 1 and 2, which no trial has used (seed 0 chose)" in page and "± " in done.stdout
    board = (tmp_path / "runs" / "leaderboard.csv").read_text()
    assert "baseline=false" in board and "sweep=tune" not in board  # the runs that confirm are ranked, and no trial
