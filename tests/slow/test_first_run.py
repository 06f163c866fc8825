"""Slow: the README's first command, as a person types it, has something to transfer and says why."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_first_command_shows_a_gain_and_says_where_it_comes_from(tmp_path):
    entry = str(Path(__file__).parents[2] / "train.py")
    words = ["strategy=hint", "student=resnet18"]
    run = subprocess.run([sys.executable, entry, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(next(tmp_path.glob("runs/digits/*/result.json")).read_text())
    teacher, alone = (result[role]["metrics"]["top1"] for role in ("teacher", "baseline"))
    assert teacher - alone >= 0.05 and result["gain"] >= 0.05
    card = " ".join(next(tmp_path.glob("runs/digits/*/README.md")).read_text().split())
    known = f"the student knew {result['data']['labelled']:,} of {result['data']['train']:,} training labels"
    assert f"Labels were scarce: {known}, and the teacher, which learned from all, answered for the others" in card
