"""result.json: written whole, and known by its config; read back, also from the schema before."""

import json
import os
import re
from pathlib import Path

import pytest
from helpers.made_results import edited, made, put, rows_of

from distillab.core import files, result_reader, run_identity
from distillab.core.result import Result, gain_and_gap
from distillab.core.result_parts import Primary


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
    assert run_identity.config_hash(CONFIG | change) == run_identity.config_hash(CONFIG)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"recipe": {"epochs": 3, "name": "short"}}, {"recipe": {"epochs": 2, "name": "b"}},
     {"trainer": {"devices": 1, "precision": 16}}, {"strategy": {"name": "kd"}}],
)  # fmt: skip
def test_hash_sees_what_a_run_computes(change):
    assert run_identity.config_hash(CONFIG | change) != run_identity.config_hash(CONFIG)


def test_hash_is_ten_digits_whatever_the_order_of_keys():
    backwards = {key: dict(reversed(v.items())) if isinstance(v, dict) else v for key, v in reversed(CONFIG.items())}
    assert list(backwards) != list(CONFIG)
    assert re.fullmatch("[0-9a-f]{10}", run_identity.config_hash(CONFIG))
    assert run_identity.config_hash(backwards) == run_identity.config_hash(CONFIG)


def test_versions_name_the_code():
    found = run_identity.versions({})
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
    known = pytest.approx(gain), pytest.approx(gap)
    assert gain_and_gap(*given, Primary(name="top1", value=given[0])) == known
    errors = [value and 1 - value for value in given]
    assert gain_and_gap(*errors, Primary(name="error", value=errors[0], higher_is_better=False)) == known


def test_a_result_is_read_as_it_was_written(tmp_path):
    written = edited(made("kd", scheme="ema"), student={"training": {"curves": [{"epoch": 1, "val/top1": 0.5}]}})
    put(tmp_path, written)
    ((read,), left_out) = result_reader.load_all(tmp_path)
    assert read == written and left_out == [] and read.method == "kd (ema)"
    content = json.loads(next(tmp_path.glob("*/*/result.json")).read_text())
    assert content["schema"] == 2 and content["primary"] == {"name": "top1", "value": 0.95, "higher_is_better": True}
    assert content["metrics"] == content["student"]["metrics"] == {"top1": 0.95}
    assert type(content["student"]["training"]["curves"][0]["epoch"]) is int


def test_what_has_diverged_or_contradicts_itself(tmp_path):
    assert "nll" not in edited(made(), student={"metrics": {"nll": float("nan")}}).student.metrics
    with pytest.raises(ValueError, match=r"`primary.value` is 0.95, and `student.metrics.top1` 95.0"):
        edited(made(), student={"metrics": {"top1": 95.0}})
    teacher = made().teacher.model_dump() | {"metrics": {"top5": 1.0}}
    with pytest.raises(ValueError, match=r"`teacher.metrics.top1` is missing"):
        made().changed(teacher=teacher)


SCHEMA_1 = Path(__file__).with_name("schema_1.json")


def test_a_file_of_schema_1_is_read_ranked_and_shown(tmp_path):
    """Written by the last version that wrote that schema."""
    from distillab.reporting.leaderboard import update
    from distillab.reporting.model_card import model_card
    from distillab.reporting.report import write_report
    from distillab.reporting.words import verdict

    old = json.loads(SCHEMA_1.read_text())
    place = tmp_path / "debug" / old["config_hash"] / "result.json"
    place.parent.mkdir(parents=True)
    place.write_text(SCHEMA_1.read_text())
    ((read,), left_out) = result_reader.load_all(tmp_path)
    assert left_out == [] and read.task == "image_classification"
    assert (read.gain, read.primary.value) == (old["gain"], old["student"]["top1"])
    for role, entry in read.entries.items():
        was, now = old[role], entry.model_dump()
        assert entry.validation == {"top1": was.pop("top1_validation")} and entry.name == was.pop("name")
        flat = (
            now["metrics"] | now["efficiency"] | now["training"] | {k: now[k] for k in ("per_class", "against_teacher")}
        )
        if was.get("against_teacher"):
            assert flat["against_teacher"].pop("excess") is None, "it came later"
        assert {key: flat[key] for key in was} == was, role
    assert [(made.name, made.metrics["top1"]) for made in read.lineage] == [
        (made["name"], made["top1"]["test"]) for made in old["lineage"]
    ]
    assert read.longer.metrics == {"top1": old["longer"]["top1"]} and read.cost.equal_compute.gain_live is not None
    assert Result.model_validate(json.loads(json.dumps(read.as_json()))) == read
    assert "3.06 points over the same student alone" in verdict(read) and "## Size and speed" in model_card(read)
    update(tmp_path)
    assert float(rows_of(tmp_path)[0]["top1"]) == old["student"]["top1"]
    assert "91.92" in write_report(tmp_path, tmp_path / "report.html")[0].with_suffix(".md").read_text()


def test_edited_files_of_schema_1_are_refused_with_a_reason(tmp_path):
    broken = {
        "`student.top1` is 95.0, not a number from 0 to 1": {"student": {"top1": 95.0}},
        "`teacher.efficiency.parameters` is 'many'": {"teacher": {"parameters": "many"}},
        "`data` is missing": {"data": None},
        "`seeds.seed` is '1'": {"seeds": {"seed": "1"}},
        "`limits.classes.0.samples` is missing": {"limits": {"classes": [{"name": "cat"}]}},
        "its schema is 99": {"schema": 99},
    }
    for reason, change in broken.items():
        old = json.loads(SCHEMA_1.read_text())
        for key, value in change.items():
            old[key] = old[key] | value if isinstance(value, dict) else value
        (tmp_path / "result.json").write_text(json.dumps(old))
        read, complaint = result_reader.read(tmp_path / "result.json")
        assert read is None and reason in complaint, complaint


def test_results_are_read_without_torch():
    import subprocess
    import sys

    code = "import sys, distillab.core.result_reader; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, distillab.commands.cli; assert not {'torch', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
