import csv
import json
import os
import re
import threading
import time
from pathlib import Path

import pytest

from distillab import files
from distillab.errors import UserError
from distillab.tracking import leaderboard, loggers, plots, result, table


def model(name, parameters, top1):
    return {"name": name, "top1": top1, "parameters": parameters, "multiply_adds": 40 * parameters, "latency_ms": 1.25,
            "latency_p95_ms": 2.0, "latency_batch_ms": 30.0, "size_bytes": 4 * parameters}  # fmt: skip


def made(strategy="kd", top1=0.95, baseline=0.93, teacher=0.97, **changes):
    student = changes.pop("student", ("resnet8", 78_042))
    gain, gap = result.gain_and_gap(top1, baseline, teacher)
    return {
        "schema": result.SCHEMA, "command": "train.py", "config": {"seed": 0}, "config_hash": "0123456789",
        "versions": {}, "seeds": {"seed": 0, "teacher": 0, "split": 0}, "strategy": strategy, "protocol": "standard",
        "name": "digits", "created": "2030-01-01T00:00:00+00:00", "status": "finished", "gain": gain,
        "gap_closed": gap, "seconds": {}, "data": {"name": "digits", "classes": 10, "test": 400},
        "teacher": None if teacher is None else model("resnet34", 21_300_000, teacher),
        "baseline": None if baseline is None else model(*student, baseline),
        "student": model(*student, top1), **changes,
    }  # fmt: skip


def put(runs, *results):
    for number, content in enumerate(results):
        files.write_json(runs / content["name"] / f"{number:010x}" / "result.json", content)


def rows_of(runs):
    with (runs / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# result.json


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


# leaderboard


def test_leaderboard_orders_each_ranking_with_ties(tmp_path):
    large = ("resnet20", 272_474)
    put(
        tmp_path,
        made("kd", 0.95, config_hash="b" * 10),
        made("kd", 0.95, student=large, config_hash="a" * 10),
        made("hint", 0.96, overrides=["strategy=hint", "seed=3"], seeds={"seed": 3}),
        made("none", 0.93, None, None),
        made("kd", 0.99, protocol="paper"),
        made("kd", 0.70, data={"name": "cifar10"}),
    )
    paths = leaderboard.update(tmp_path)
    assert [path.name for path in paths] == ["leaderboard.csv", "leaderboard.md"]
    rows = rows_of(tmp_path)
    found = [(row["data"], row["protocol"], row["rank"], row["strategy"], row["student"]) for row in rows]
    assert found == [
        ("cifar10", "standard", "1", "kd", "resnet8"),
        ("digits", "paper", "1", "kd", "resnet8"),
        ("digits", "standard", "1", "hint", "resnet8"),
        ("digits", "standard", "2", "kd", "resnet8"),
        ("digits", "standard", "2", "kd", "resnet20"),
        ("digits", "standard", "4", "none", "resnet8"),
    ]
    assert (rows[2]["seed"], rows[2]["changed"]) == ("3", "strategy=hint seed=3")
    assert float(rows[2]["gain"]) == pytest.approx(0.03) and rows[5]["gain"] == ""
    lines = paths[1].read_text().splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## cifar10, protocol standard", "## digits, protocol paper", "## digits, protocol standard",
    ]  # fmt: skip
    ranking = lines[lines.index("## digits, protocol standard") + 2 :][:6]
    assert len({len(line) for line in ranking}) == 1, "columns stand under each other"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in ranking]
    alone = dict(zip(cells[0], cells[5], strict=True))
    assert (alone["top-1 %"], alone["gain"], alone["parameters"]) == ("93.00", "–", "78.0 k")
    assert table.percent(-0.5, 0) == "−50"
    best = dict(zip(cells[0], cells[2], strict=True))
    assert (best["gain"], best["gap closed %"], best["teacher top-1 %"]) == ("+3.00", "75", "97.00")


def test_broken_results_are_named_and_left_out(tmp_path, caplog):
    put(tmp_path, made())
    whole = json.dumps(made())
    broken = {
        "half": whole[: len(whole) // 2],
        "foreign": json.dumps(made(schema=99)),
        "edited": json.dumps(made(student=("resnet8", 78_042), top1=95.0)),
        "text": json.dumps(made(strategy=3)),
        "missing": json.dumps({key: value for key, value in made().items() if key != "data"}),
        "nan": whole.replace("0.95", "NaN"),
        "list": "[]",
        "binary": "\udcff",
    }
    for name, text in broken.items():
        path = tmp_path / "x" / name / "result.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode(errors="surrogateescape"))
    results, left_out = result.load_all(tmp_path)
    assert len(results) == 1 and len(left_out) == len(broken)
    leaderboard.update(tmp_path)
    shown = (tmp_path / "leaderboard.md").read_text()
    for name in broken:
        (line,) = [line for line in left_out if f"/{name}/" in line]
        assert "\n" not in line and line in caplog.messages and line in shown
    assert any("schema is 99" in line for line in left_out) and any("95.0" in line for line in left_out)
    assert len(rows_of(tmp_path)) == 1


def test_concurrent_updates_leave_whole_files_with_every_result(tmp_path):
    errors = []

    def work(number):
        try:
            for turn in range(5):
                put(tmp_path, made(name=f"run{number}-{turn}"))
                leaderboard.update(tmp_path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {row["name"] for row in rows_of(tmp_path)} == {f"run{n}-{t}" for n in range(4) for t in range(5)}
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_a_slow_update_does_not_bring_back_an_older_leaderboard(tmp_path, monkeypatch):
    put(tmp_path, made(name="first"))
    load_all, has_read = leaderboard.load_all, threading.Event()

    def slow_at_first(runs):
        found = load_all(runs)
        if not has_read.is_set():
            has_read.set()
            time.sleep(0.3)
        return found

    monkeypatch.setattr(leaderboard, "load_all", slow_at_first)
    slow = threading.Thread(target=leaderboard.update, args=(tmp_path,))
    slow.start()
    has_read.wait()
    put(tmp_path, made(name="second"))
    leaderboard.update(tmp_path)
    slow.join()
    assert {row["name"] for row in rows_of(tmp_path)} == {"first", "second"}


def test_leaderboard_of_nothing(tmp_path):
    leaderboard.update(tmp_path / "runs")
    assert "No results yet" in (tmp_path / "runs" / "leaderboard.md").read_text()


# table and verdict


OVER, AGAINST = "over the same student alone (resnet8, seed 0)", "against the same student alone (resnet8, seed 0)"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            made("kd", 0.95, 0.93, 0.97),
            f"Distillation brought +2.0 points {OVER} and closed 50 % of the gap to the teacher. One seed, and 400 test "
            "samples give each accuracy a standard error of 1.1 points: a difference this small can be chance.",
        ),
        (
            made("kd", 0.92, 0.93, 0.97),
            f"Distillation lost 1.0 points {AGAINST}. One seed, and 400 test samples give each accuracy a standard error "
            "of 1.4 points: a difference this small can be chance.",
        ),
        (
            made("kd", 0.95, 0.70, 0.90),
            f"Distillation brought +25.0 points {OVER} and closed the whole gap to the teacher (125 %). One seed, and "
            "400 test samples give each accuracy a standard error of 1.1 points: more than the test samples explain, "
            "but another seed may differ.",
        ),
        (
            made("kd", 0.93, 0.93, 0.92, data={"name": "x"}),
            "Distillation made no difference to the same student alone (resnet8, seed 0); the teacher is not above the "
            "student alone (92.0 % against 93.0 %), so there was no gap to close. One seed: another may say otherwise.",
        ),
        (
            made("kd", 0.95, None, 0.97),
            "resnet8 reaches 95.0 % ± 1.1 (binomial standard error, 400 test samples), the teacher 97.0 %; what "
            "distillation itself brought is unknown without the same student trained alone (baseline=true).",
        ),
        (
            made("none", 0.95, None, None),
            "resnet8 alone, without a teacher, reaches 95.0 % ± 1.1 (binomial standard error, 400 test samples).",
        ),
    ],
)
def test_verdict(given, sentence):
    assert table.verdict(given) == sentence


def test_standard_error_is_the_spread_of_many_tests():
    import numpy as np

    draws = np.random.default_rng(0).binomial(400, 0.9, size=20_000) / 400
    assert table.standard_error(0.9, 400) == pytest.approx(draws.std(), rel=0.03)


def test_final_table_compares_with_the_teacher():
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as capture:
        console.print(table.final_table(made()))
    text = capture.get()
    order = [text.index(label) for label in ("teacher: resnet34", "student alone: resnet8", "student, kd: resnet8")]
    assert order == sorted(order)
    distilled = next(line for line in text.splitlines() if "student, kd" in line)
    for cell in ("95.00", "+2.00", "50 %", "78.0 k (0.4 %)", "1.25 ms (100 %)", "312 kB"):
        assert cell in distilled
    assert len(table.final_table(made("none", 0.9, None, None)).rows) == 1


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (5, "5"), (78_042, "78.0 k"), (1_819_066_368, "1.82 G"), (272_474, "272 k")]
)
def test_counts_have_three_digits(number, text):
    assert table.count(number) == text


# plots


def points_of(axes, label):
    """What is drawn under one label: parameters in millions and top-1 in percent, as matplotlib holds them."""
    return sorted(
        (round(float(x), 6), round(float(y), 4))
        for marks in axes.collections
        if marks.get_label() == label
        for x, y in marks.get_offsets()
    )


def study():
    large = ("resnet20", 272_474)
    return [
        made("none", 0.93, None, None), made("kd", 0.95), made("hint", 0.951), made("none", 0.95, None, None, student=large),
        made("kd", 0.96, 0.95, student=large), made("kd+hint", 0.94, 0.95, student=large),
    ]  # fmt: skip


def test_plot_is_two_valid_files_and_nothing_else(tmp_path):
    from PIL import Image

    paths = plots.accuracy_against_parameters(study(), tmp_path / "accuracy.png")
    assert sorted(os.listdir(tmp_path)) == ["accuracy.png", "accuracy.svg"] == sorted(path.name for path in paths)
    with Image.open(paths[0]) as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    assert "resnet20" in paths[1].read_text() and paths[1].read_text().rstrip().endswith("</svg>")


def test_plot_shows_every_point_once():
    (axes,) = plots.figure(study()).axes
    assert points_of(axes, "kd") == [(0.078042, 95.0), (0.272474, 96.0)]
    assert points_of(axes, "hint") == [(0.078042, 95.1)]
    assert points_of(axes, "kd+hint") == [(0.272474, 94.0)]
    assert points_of(axes, "teacher") == [(21.3, 97.0)]
    assert points_of(axes, "student alone") == [(0.078042, 93.0), (0.272474, 95.0)]
    joined = sorted(tuple(round(float(y), 4) for y in line.get_ydata()) for line in axes.lines)
    assert joined == [(93.0, 95.0), (93.0, 95.1), (95.0, 94.0), (95.0, 96.0)]
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < 93 and high > 97


def test_plot_labels_do_not_overlap():
    crowd = [made("kd", 0.95 + 0.001 * n, 0.93, student=(f"network{n}", 78_000 + 9_000 * n)) for n in range(5)]
    drawing = plots.figure(crowd)
    (axes,) = drawing.axes
    boxes = [text.get_window_extent(drawing.canvas.get_renderer()) for text in axes.texts]
    assert len(boxes) == 6
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_plot_has_a_panel_for_each_data_set_and_protocol():
    drawing = plots.figure([*study(), made(data={"name": "cifar10"}), made(protocol="paper")])
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["cifar10", "digits, protocol paper", "digits"]


# loggers


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
    for record in wandb_records(tmp_path / "run"):
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
