"""What the loggers hold, read back from their files."""

import csv
import json
import os
import re
import time
from pathlib import Path

import pytest
from made_results import made

from distillab.errors import UserError
from distillab.tracking import loggers


def wandb_records(folder):
    """The records of the `.wandb` file below `folder`: LevelDB's log format under a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


SETTINGS = {"kind": "wandb", "project": "distillab", "entity": None, "mode": "auto", "tags": ["study"]}


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path, "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, str(value))
    yield
    from wandb.sdk.lib import wbauth

    wbauth.unauthenticate_session()  # W&B keeps a key that it found for the rest of the process


def test_offline_run_holds_config_summary_and_student(no_account, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "student.safetensors").write_bytes(b"weights")
    config = {"seed": 3, "recipe": {"epochs": 2}}
    logger = loggers.build(SETTINGS, tmp_path / "run", config, "a name", "a sweep")
    logger.log_metrics({"val/accuracy": 0.5, "val/accuracy_best": 0.5}, step=1)
    loggers.log_summary(logger, made())
    where = loggers.finish(logger, 0)
    assert re.fullmatch(r"wandb sync .*/run/wandb/offline-run-\S+", where)
    assert capfd.readouterr() == ("", "")

    configs, summary, runs, artifacts, exits = {}, {}, [], [], []
    deadline = time.monotonic() + 20
    records = []
    while not {"run", "exit"} <= {record.WhichOneof("record_type") for record in records}:
        assert time.monotonic() < deadline, [record.WhichOneof("record_type") for record in records]
        records = list(wandb_records(tmp_path / "run"))  # W&B's own process may still be writing
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            runs.append(record.run)
            configs |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "summary":
            summary |= {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "artifact":
            artifacts.append(record.artifact)
        elif kind == "exit":
            exits.append(record.exit.exit_code)
    assert (runs[0].project, runs[0].display_name, runs[0].run_group) == ("distillab", "a name", "a sweep")
    assert list(runs[0].tags) == ["study"] and exits == [0]
    assert configs["seed"] == 3 and configs["recipe"] == {"epochs": 2}
    expected = {"top1": 0.95, "parameters": 78_042, "multiply_adds": 3_121_680, "latency_ms": 1.25, "strategy": "kd",
                "student": "resnet8", "teacher_top1": 0.97, "baseline_top1": 0.93}  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["gain"] == pytest.approx(0.02)
    (artifact,) = artifacts
    assert (artifact.name, artifact.type) == ("resnet8-0123456789", "model")
    assert [entry.path for entry in artifact.manifest.contents] == ["student.safetensors"]

    import wandb

    assert wandb.run is None and "WANDB_MODE" not in os.environ


def test_a_key_means_online_and_none_is_never_asked_for(no_account, monkeypatch, tmp_path):
    assert loggers._mode("auto") == "offline"
    with pytest.raises(UserError, match=r"no key.*logger\.mode=offline"):
        loggers._mode("online")
    (tmp_path / ".netrc").write_text("machine example.org login user password secret\n")
    assert loggers._mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(UserError, match=r"cannot use its key.*logger\.mode=offline"):
        loggers._mode("auto")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert (loggers._mode("auto"), loggers._mode("online"), loggers._mode("offline")) == ("online", "online", "offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert loggers._mode("auto") == "offline"
    with pytest.raises(UserError, match="auto, online, offline, disabled"):
        loggers._mode("sometimes")


def test_an_environment_key_means_online(no_account, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert loggers._mode("auto") == "online"


def test_csv_and_tensorboard_hold_the_summary(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for kind in ("csv", "tensorboard"):
        logger = loggers.build({"kind": kind}, tmp_path, {"seed": 0}, "a name")
        logger.log_metrics({"train/loss": 1.0}, step=0)
        loggers.log_summary(logger, made())
        assert loggers.finish(logger) is None
        assert "strategy: kd" in (Path(logger.log_dir) / "hparams.yaml").read_text()
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["top1"] for row in rows] == ["", "0.95"] and rows[0]["train/loss"] == "1.0"
    events = EventAccumulator(logger.log_dir).Reload()
    assert events.Scalars("top1")[0].value == pytest.approx(0.95)
    assert events.Scalars("parameters")[0].value == 78_042


def test_a_second_start_keeps_the_curves_of_the_first(tmp_path):
    for _ in range(2):
        logger = loggers.build({"kind": "csv"}, tmp_path, {}, "a name")
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.save()
    assert len(list(tmp_path.glob("csv/version_*/metrics.csv"))) == 2


def test_missing_tensorboard_names_the_extra(monkeypatch, tmp_path):
    from lightning.pytorch import loggers as lightning_loggers

    def absent(*_, **__):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(lightning_loggers, "TensorBoardLogger", absent)
    with pytest.raises(UserError, match="uv sync --extra tensorboard"):
        loggers.build({"kind": "tensorboard"}, tmp_path, {}, "a name")


def test_no_logger_and_an_unknown_one(tmp_path):
    assert loggers.build(None, tmp_path, {}, "x") is None and loggers.build({"kind": "none"}, tmp_path, {}, "x") is None
    loggers.log_summary(None, made())
    assert loggers.finish(None, 1) is None
    with pytest.raises(UserError, match="wandb, csv, tensorboard, none"):
        loggers.build({"kind": "mlflow"}, tmp_path, {}, "x")


def test_every_logger_file_is_understood(no_account, tmp_path, monkeypatch):
    import yaml

    folder = Path(__file__).parents[1] / "conf" / "logger"
    files = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    assert sorted(files) == sorted(loggers.KINDS) and all(config["kind"] == name for name, config in files.items())
    assert set(files["wandb"]) == set(SETTINGS) and {len(files[name]) for name in files if name != "wandb"} == {1}
