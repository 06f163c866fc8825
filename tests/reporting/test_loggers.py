"""What the loggers hold, read back from their files."""

import csv
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from helpers.made_results import edited, made
from helpers.wandb_files import read, records, wandb_records

from distillab.core.configuration import LoggerConfig
from distillab.core.errors import UserError
from distillab.reporting import loggers, wandb_run

SETTINGS = LoggerConfig.of({"kind": "wandb", "project": "distillab", "entity": None, "mode": "auto", "tags": ["study"]})


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path, "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, str(value))
    yield
    from wandb.sdk.lib import wbauth

    wbauth.unauthenticate_session()  # W&B keeps a key that it found for the rest of the process


def judged(strategy="kd", seed=0, **changes):
    """A result with every figure that a run may have."""
    result = made(strategy, seeds={"seed": seed, "teacher": 7, "split": 0}, scheme="offline", **changes)
    metrics = {"top1_best": 0.96, "top1_last": 0.94, "top5": 0.99, "nll": 0.21, "brier": 0.08,
               "calibration_error": 0.03, "balanced_accuracy": 0.94, "macro_f1": 0.93}  # fmt: skip
    curves = [{"epoch": 1, "train/loss": 1.5, "val/top1": 0.91}, {"epoch": 2, "train/loss": 1.0, "val/top1": 0.9},
              {"epoch": 3, "train/loss": 0.9}]  # fmt: skip
    student = {"metrics": metrics, "efficiency": {"throughput": 800.0}, "training": {"curves": curves}}
    student["against_teacher"] = {"agreement": 0.96, "kl": 0.1}
    return edited(result, config_hash=f"{strategy}-{seed}-{result.student.name}", student=student)


NUMBERS = {
    "top1": 0.95, "top1_best": 0.96, "top1_last": 0.94, "top5": 0.99, "nll": 0.21, "brier": 0.08, "calibration_error": 0.03, "balanced_accuracy": 0.94,
    "macro_f1": 0.93, "parameters": 78_042, "multiply_adds": 3_121_680, "latency_ms": 1.25, "size_bytes": 312_168,
    "throughput": 800.0, "gain": pytest.approx(0.02), "gap_closed": pytest.approx(0.5), "agreement": 0.96,
    "teacher_top1": 0.97, "baseline_top1": 0.93, "val/top1_best": 0.91,
}  # fmt: skip
LABELS = {"strategy": "kd", "student": "resnet8", "teacher": "resnet34", "scheme": "offline", "data": "digits",
          "protocol": "standard", "seed": 0}  # fmt: skip


def test_an_offline_run_holds_all_that_was_promised(no_account, tmp_path, capfd):
    import wandb
    from PIL import Image

    folder = tmp_path / "runs" / "digits" / "kd-0-resnet8"
    folder.mkdir(parents=True)
    shipped = {"student.safetensors": b"weights", "result.json": b"{}", "README.md": b"# card"}
    for name, content in shipped.items():
        (folder / name).write_bytes(content)
    Image.new("RGB", (8, 4)).save(folder / "limits.png")
    Image.new("RGB", (6, 3)).save(tmp_path / "runs" / "accuracy_vs_parameters.png")
    config = {"seed": 3, "strategy": {"ce": {"weight": 0.1}}, "recipe": {"epochs": 2}}
    logger = loggers.build(SETTINGS, folder, config, "a name", group="a sweep")
    for step in (1, 2):
        logger.log_metrics({"train/loss": 2.0 / step, "val/top1": 0.4 * step}, step=step)
    other = judged("dkd", student=("resnet14", 175_258), top1=0.96, baseline=0.94)
    alone = judged("none", top1=0.93, baseline=None, teacher=None)  # the same point as the baseline of the others
    strangers = judged("crd", data={"name": "cifar10"}), judged("crd", protocol="paper")
    loggers.log_summary(logger, judged(), [other, alone, judged(), *strangers])
    where = loggers.finish(logger, 0)
    # W&B's own process may write the last records after `finish` has returned; it has written all when it has ended.
    wandb.teardown()
    assert re.fullmatch(r"wandb sync .*/kd-0-resnet8/wandb/offline-run-\S+", where)
    assert capfd.readouterr() == ("", "")
    assert wandb.run is None and "WANDB_MODE" not in os.environ

    configs, summary, history, runs, artifacts, exits = {}, {}, [], [], [], []
    for record in wandb_records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            runs.append(record.run)
            configs |= read(record.run.config.update)
        elif kind == "config":
            configs |= read(record.config.update)
        elif kind == "summary":
            summary |= read(record.summary.update)
        elif kind == "history":
            history.append(read(record.history.item))
        elif kind == "artifact":
            artifacts.append(record.artifact)
        elif kind == "exit":
            exits.append(record.exit.exit_code)
    assert (runs[0].project, runs[0].display_name, runs[0].run_group) == ("distillab", "a name", "a sweep")
    assert list(runs[0].tags) == ["study"] and exits == [0]
    assert {key: configs[key] for key in config} == config and configs["labels"] == LABELS
    assert {key: summary[key] for key in NUMBERS} == NUMBERS and {key: summary[key] for key in LABELS} == LABELS
    assert [(row["train/loss"], row["val/top1"]) for row in history[:2]] == [(2.0, 0.4), (1.0, 0.8)]
    last = history[-1]
    assert {key: last[key] for key in NUMBERS} == NUMBERS

    (stored,) = folder.glob("wandb/offline-run-*/files")
    for key, source in (
        ("limits", folder / "limits.png"),
        ("accuracy_vs_parameters", folder / "../../accuracy_vs_parameters.png"),
    ):
        assert (stored / last[f"plots/{key}"]["path"]).read_bytes() == source.read_bytes(), key
    table = json.loads((stored / last["accuracy_against_parameters_table"]["path"]).read_text())
    assert table["columns"] == ["strategy", "model", "parameters", "top1_percent", "seed"]
    assert table["data"] == [
        ["teacher", "resnet34", 21_300_000, 97, 7],
        ["student alone", "resnet14", 175_258, 94, 0],
        ["dkd", "resnet14", 175_258, 96, 0],
        ["student alone", "resnet8", 78_042, 93, 0],
        ["kd", "resnet8", 78_042, 95, 0],
    ]
    chart = configs["_wandb"]["visualize"]["accuracy_against_parameters"]["panel_config"]
    assert chart["panelDefId"] == "wandb/scatter/v0"
    assert chart["fieldSettings"] == {"x": "parameters", "y": "top1_percent"}
    (artifact,) = (artifact for artifact in artifacts if artifact.type == "model")
    assert artifact.name == "resnet8-kd-0-resnet8" and json.loads(artifact.metadata) == NUMBERS | LABELS
    contents = {entry.path: Path(entry.local_path).read_bytes() for entry in artifact.manifest.contents}
    assert contents == shipped


def test_an_older_result_has_fewer_figures(tmp_path):
    numbers, labels = loggers.summary(made(teacher=None, baseline=None))
    assert numbers == {key: NUMBERS[key] for key in ("top1", "parameters", "multiply_adds", "latency_ms", "size_bytes")}
    assert labels == {key: value for key, value in LABELS.items() if key != "teacher"}
    ema = made(scheme="ema")
    assert loggers.summary(ema)[1]["strategy"] == "kd (ema)"


def test_a_key_means_online_and_none_is_never_asked_for(no_account, monkeypatch, tmp_path, capsys):
    assert wandb_run.mode("auto") == "offline"
    with pytest.raises(UserError, match=r"no key.*logger\.mode=offline"):
        wandb_run.mode("online")
    (tmp_path / ".netrc").write_text("machine example.org login user password secret\n")
    assert wandb_run.mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert wandb_run.mode("auto") == "offline" and "cannot use its key" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"cannot use its key.*logger\.mode=offline"):
        wandb_run.mode("online")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert (wandb_run.mode("auto"), wandb_run.mode("online"), wandb_run.mode("offline")) == (
        "online",
        "online",
        "offline",
    )
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_run.mode("auto") == "offline"


def test_an_environment_key_means_online(no_account, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_run.mode("auto") == "online"


def test_csv_and_tensorboard_hold_the_summary(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for kind in ("csv", "tensorboard"):
        logger = loggers.build(LoggerConfig.of({"kind": kind}), tmp_path, {"seed": 0}, "a name")
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
        logger = loggers.build(LoggerConfig.of({"kind": "csv"}), tmp_path, {}, "a name")
        logger.log_metrics({"loss": 1.0}, step=0)
        logger.save()
    assert len(list(tmp_path.glob("csv/version_*/metrics.csv"))) == 2


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_package_is_told_before_anything_is_trained(kind, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(loggers, "distribution", absent)
    with pytest.raises(UserError, match=f"logger={kind} needs {kind}, .*uv sync --extra {kind}"):
        loggers.check(LoggerConfig.of({"kind": kind}))


def test_a_missing_key_is_told_before_anything_is_trained(no_account):
    with pytest.raises(UserError, match=r"no key.*logger\.mode=offline"):
        loggers.check(LoggerConfig.of({"kind": "wandb", "mode": "online"}))


def test_a_resumed_run_goes_on_with_its_wandb_run(no_account, tmp_path):
    """Stopped and started again, a folder once had two runs in W&B; a repeated run, whose folder is new, has another."""
    import wandb

    ids = []
    for folder in (tmp_path / "run", tmp_path / "run", tmp_path / "other"):
        logger = loggers.build(SETTINGS, folder, {}, "a name")
        logger.log_metrics({"train/loss": 1.0}, step=len(ids))
        where = loggers.finish(logger)
        wandb.teardown()
        newest = max(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
        ids.append(next(record.run.run_id for record in records(newest) if record.WhichOneof("record_type") == "run"))
        assert where.endswith("offline-run-*") == (len(ids) == 2), "both parts of a run are uploaded"
    assert ids[0] == ids[1] != ids[2]


class FakeMLflow:
    """Lightning's logger without a server: what it was built with, and how it ended."""

    def __init__(self, **about):
        self.about, self.ended = about, []
        self.run_id = about["run_id"] or "run-1"

    def finalize(self, status):
        self.ended.append(status)


def test_mlflow_gets_one_run_per_folder_in_one_store_or_on_a_server(tmp_path, monkeypatch):
    from lightning.pytorch import loggers as lightning_loggers

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(loggers, "distribution", lambda name: name)
    monkeypatch.setattr(lightning_loggers, "MLFlowLogger", type("MLFlowLogger", (FakeMLflow,), {}))
    settings = LoggerConfig.of({"kind": "mlflow", "project": "study", "tags": "first"})
    folder = tmp_path / "runs" / "digits" / "0123456789"
    first, again = (loggers.build(settings, folder, {}, "a name") for _ in range(2))
    assert first.about == {"experiment_name": "study", "run_name": "a name", "run_id": None, "tags": {"first": "true"},
                           "tracking_uri": f"sqlite:///{tmp_path}/runs/mlflow.db"}  # fmt: skip
    assert again.about["run_id"] == "run-1"
    loggers.finish(again, 1)
    assert again.ended == ["failed"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")
    assert loggers.build(settings, folder, {}, "a name").about["tracking_uri"] == "http://here"

    def unanswered(**_):
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setattr(lightning_loggers, "MLFlowLogger", unanswered)
    with pytest.raises(UserError, match=r"MLflow cannot start a run \(nobody answers\): .*logger\.uri=…"):
        loggers.build(settings, folder, {}, "a name")


def test_no_logger_and_an_unknown_one(tmp_path):
    assert loggers.build(LoggerConfig.of({"kind": "none"}), tmp_path, {}, "x") is None
    loggers.log_summary(None, made())
    assert loggers.finish(None, 1) is None
    for wrong, named in ({"kind": "comet"}, "csv"), ({"kind": "wandb", "mode": "sometimes"}, "auto, online, offline"):
        with pytest.raises(UserError, match=named):
            LoggerConfig.of(wrong)


def test_every_logger_file_is_understood(no_account, tmp_path, monkeypatch):
    import yaml

    folder = Path(__file__).parents[2] / "conf" / "logger"
    files = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    assert sorted(files) == ["csv", "mlflow", "none", "tensorboard", "wandb"]
    assert all(config["kind"] == name for name, config in files.items())
    assert set(files["wandb"]) | {"uri"} == set(vars(SETTINGS)) > set(files["mlflow"])
    assert {len(files[name]) for name in ("csv", "none", "tensorboard")} == {1}


def test_a_home_that_cannot_be_written_is_told_before_training(no_account, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "home"))
    with pytest.raises(UserError, match=r"^cannot write to .*staging \(.*WANDB_DATA_DIR=[^\n]*$"):
        loggers.build(SETTINGS, tmp_path / "run", {}, "a name")


def test_the_first_look_at_w_and_b_silences_its_banner(tmp_path):
    """W&B reads that once in a process, so a look for its key before the run begins must set it too."""
    look = "from distillab.reporting.wandb_run import has_key; has_key(); import wandb; print(wandb.setup().settings.silent)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_MODE": "offline"}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"
