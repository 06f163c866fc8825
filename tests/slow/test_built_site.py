"""The whole documentation site: built without a warning, its reference has every public name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distillab import functional

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        "scripts/site/mkdocs.yml",
        "-d",
        tmp_path,
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    assert "one honest number" in (tmp_path / "index.html").read_text()
    reference = (tmp_path / "api" / "index.html").read_text()
    heads = set(re.findall(r'<h3 id="([\w.]+)"', reference))
    assert {f"{getattr(functional, name).__module__}.{name}" for name in functional.__all__} <= heads
    assert {"distillab.training.module.Distillation", "distillab.core.result.Result"} <= heads
