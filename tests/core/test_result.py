"""result.json: written whole, and known by its config."""

import json
import os
import re
from pathlib import Path

import pytest

from distillab.core import files, result


def test_write_json_is_atomic_and_knows_no_nan(tmp_path):
    path = tmp_path / "new" / "result.json"
    files.write_json(path, {"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x")})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1.5], "c": "x"}
    before = path.read_bytes()
    with pytest.raises(TypeError):
        files.write_json(path, {"a": 1, "b": object()})
    with pytest.raises(OSError, match="disk"), files.replacing(path) as temporary:
        temporary.write_text('{"half')
        raise OSError("disk full")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["result.json"]


CONFIG = {"seed": 0, "name": "a", "recipe": {"epochs": 2, "name": "short"}, "trainer": {"devices": 1, "precision": 32}}


@pytest.mark.parametrize(
    "change",
    [{"name": "b"}, {"logger": {"kind": "csv"}}, {"paths": {"runs": "/x"}}, {"launcher": {}}, {"rerun": True},
     {"trainer": {"accelerator": "gpu", "devices": 4, "num_nodes": 2, "strategy": "ddp", "progress_bar": False,
                  "precision": 32}}],
)  # fmt: skip
def test_hash_ignores_where_a_run_happens(change):
    assert result.config_hash(CONFIG | change) == result.config_hash(CONFIG)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"recipe": {"epochs": 3, "name": "short"}}, {"recipe": {"epochs": 2, "name": "b"}},
     {"trainer": {"devices": 1, "precision": 16}}, {"strategy": {"name": "kd"}}],
)  # fmt: skip
def test_hash_sees_what_a_run_computes(change):
    assert result.config_hash(CONFIG | change) != result.config_hash(CONFIG)


def test_hash_is_ten_digits_whatever_the_order_of_keys():
    backwards = {key: dict(reversed(v.items())) if isinstance(v, dict) else v for key, v in reversed(CONFIG.items())}
    assert list(backwards) != list(CONFIG)
    assert re.fullmatch("[0-9a-f]{10}", result.config_hash(CONFIG))
    assert result.config_hash(backwards) == result.config_hash(CONFIG)


def test_versions_name_the_code():
    found = result.versions()
    import torch

    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"distillab", "commit", "python", "lightning", "hydra-core", "torchvision"} <= set(found)
    assert found["commit"] is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", found["commit"])


@pytest.mark.parametrize(
    ("given", "gain", "gap"),
    [((0.95, 0.93, 0.97), 0.02, 0.5), ((0.92, 0.93, 0.97), -0.01, -0.25), ((0.95, 0.93, 0.93), 0.02, None),
     ((0.95, 0.93, None), 0.02, None), ((0.95, None, 0.97), None, None)],
)  # fmt: skip
def test_gain_and_gap(given, gain, gap):
    assert result.gain_and_gap(*given) == (pytest.approx(gain), pytest.approx(gap))
