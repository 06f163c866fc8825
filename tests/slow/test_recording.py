"""The recorded experiments: they run, repeat themselves, and on the machine of the recording they are bit for bit the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_recorded_experiments_come_out_as_recorded(tmp_path):
    command = [sys.executable, str(HERE / "recording.py"), str(tmp_path / "now.json")]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}  # as a person runs it
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    now, before = (json.loads(path.read_text()) for path in (tmp_path / "now.json", HERE / "recording.json"))
    cases = now["cases"]
    assert cases.keys() == before["cases"].keys()
    assert not {name: case["error"] for name, case in cases.items() if "error" in case}
    hashes = {name: case["student"] for name, case in cases.items()}
    assert hashes["cache, cold"] == hashes["cache, warm"] == hashes["cache, resumed"]
    assert hashes["folder, files"] == hashes["folder, workers"]
    if now["machine"] == before["machine"]:  # elsewhere the last bits of the arithmetic are others
        assert cases == before["cases"]
