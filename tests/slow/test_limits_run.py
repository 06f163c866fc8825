"""Slow: a teacher that is made bad at two classes, from the command to the sentences."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_teacher_made_bad_at_two_classes_from_the_command_to_the_sentences(tmp_path):
    words = ["strategy=kd", "student=resnet8", "teacher=resnet14", "teacher.corrupt_classes=[3,5]", "data.labelled=1.0"]
    command = [
        sys.executable,
        str(Path(__file__).parents[2] / "train.py"),
        *words,
        "equal_compute=false",
        "logger=none",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = json.loads(next(tmp_path.glob("runs/digits/*/result.json")).read_text())
    card = next(tmp_path.glob("runs/digits/*/README.md")).read_text()
    for sentence in result["limits"]["sentences"]:
        assert re.findall(r"(\d) \(", sentence) == ["3", "5"], sentence
        assert sentence in card
