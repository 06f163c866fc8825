"""Sweeps from the command to the table, with a stand-in for the experiment where a whole run is not needed."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.made_results import made, merged
from helpers.made_seeds import BASELINE, HINT, KD, over_seeds
from omegaconf import OmegaConf

from distillab.commands import cli, experiment, sweep
from distillab.commands import composition as config
from distillab.commands.invocation import Invocation, home, parse
from distillab.core.errors import UserError
from distillab.core.files import write_json
from distillab.core.run_identity import config_hash
from distillab.core.stopping import Stopped
from distillab.reporting.sweep_table import table
from distillab.reporting.tables import terminal

ENTRY = str(Path(__file__).parents[2] / "train.py")

# Every Python that starts with this folder on its path, a worker too, takes this for distillab.commands.experiment.
STAND_IN = """
import sys, time, types
from datetime import UTC, datetime

def run(asked):
    print("run", asked.label, asked.sweep_folder.name, "|", asked.command, flush=True)
    time.sleep(asked.config.recipe.lr)
    if asked.label == "hint":
        raise OSError("the disk is full")
    primary = types.SimpleNamespace(name="top1", value=0.9)
    student = types.SimpleNamespace(validation={"top1": 0.8})
    return types.SimpleNamespace(
        created=datetime.now(UTC).isoformat(timespec="seconds"), primary=primary, student=student, gain=-0.015, reference="baseline",
        protocol="standard", seconds={"total": 12.3}, name=asked.config.name, config_hash="0123456789")

module = types.ModuleType("distillab.commands.experiment")
module.run = run
sys.modules["distillab.commands.experiment"] = module
"""


@pytest.fixture
def command(tmp_path):
    def start(*words):
        (tmp_path / "sitecustomize.py").write_text(STAND_IN)
        path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        environment.pop("HYDRA_FULL_ERROR", None)
        done = [sys.executable, ENTRY, *words, "logger=none"]
        return subprocess.run(done, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def command_here(tmp_path, monkeypatch, capsys):
    """The command in this process, which has imported all that a run needs."""

    def start(*words):
        failures = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(cli.TRACEBACK, "1")  # so that it is put back
        for owner, name, value in (
            (sys, "argv", [ENTRY, *words, "logger=none"]),
            (sys, "path", [*sys.path]),
            (logging.root, "handlers", []),
            (cli, "failed", []),
            (cli, "failures", failures),
            (sweep, "failures", failures),
        ):
            monkeypatch.setattr(owner, name, value)
        capsys.readouterr()
        cli.main()
        return capsys.readouterr().out

    return start


def folder_of(place):
    (folder,) = (place / "runs" / "sweeps").iterdir()
    return folder


def records_of(place):
    return sweep.recorded(folder_of(place))


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_failing_cell_stops_no_other_wherever_the_cells_run(command, tmp_path, launcher):
    words = [f"launcher={launcher}", "student=resnet8", "recipe.lr=0.4"]
    if launcher == "joblib":
        words.append("hydra.launcher.n_jobs=2")
    if launcher == "submitit":
        words.append("hydra/launcher=submitit_local")
    done = command("-m", "strategy=kd,hint,[kd,attention]", *words)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "error: 1 of 3 cells failed" in done.stderr
    records = records_of(tmp_path)
    assert [record["strategy"] for record in records] == ["kd", "hint", "kd+attention"]
    assert [record.get("error") for record in records] == [None, "the disk is full", None]
    assert [record.get("score") for record in records] == [0.9, None, 0.9]
    folder = folder_of(tmp_path)
    page = (folder / "sweep.md").read_text()
    assert f"train.py -m 'strategy=kd,hint,[kd,attention]' {words[0]}" in page
    assert "3 of 3 cells have ended" in page
    assert "| 2 | hint | resnet8 | – | – | – | – | failed: the disk is full |" in page
    assert "| 3 | kd+attention | resnet8 | – | 90.00 | −1.50 | 12 |  |" in page
    said = done.stdout
    if launcher == "submitit":  # the cells speak into files of their own
        said += "".join(path.read_text() for path in (folder / ".submitit").rglob("*.out"))
    assert "cell 3 of 3 · kd+attention, resnet8" in said
    if launcher == "basic":
        assert "cell 1 of 3 · kd, resnet8\n" in said and "cell 2 of 3 · hint, resnet8 · about 1 s left\n" in said
    assert f"run kd {folder.name} | python train.py -m 'strategy=kd,hint,[kd,attention]'" in said
    assert done.stdout.count("−1.50") == 2 and "failed: the disk is full" in done.stdout


def test_finished_cells_are_skipped_and_shown_in_one_row(command_here, tmp_path):
    words = ["student=resnet8", "logger=none"]
    for seed in (0, 1):
        cfg = OmegaConf.to_container(config.compose([*words, "strategy=kd", f"seed={seed}"]), resolve=True)
        directory = tmp_path / "runs" / "digits" / config_hash(cfg)
        write_json(
            directory / "result.json", made(seconds={"total": 77.0}, created="2024-01-01T00:00:00+00:00").as_json()
        )
        # The same cell on other devices is the same run; it starts no processes either.
    said = command_here("-m", "seed=0,1", "student=resnet8", "trainer=ddp", "trainer.devices=2")
    assert said.count("rerun=true repeats it") == 2
    assert "latency" not in said  # the table of a single run
    assert all(record["earlier"] and record["seconds"] == 77 for record in records_of(tmp_path))
    assert (
        "| 2 | kd | resnet8 | seed=1 | 95.00 | +2.00 | 77 | finished before |"
        in (folder_of(tmp_path) / "sweep.md").read_text()
    )


def test_a_sweep_of_reruns_that_was_stopped_repeats_no_cell_twice(command_here, monkeypatch):
    """Neither does one in which a cell failed; one that ended well is repeated as a whole."""
    done, trouble = [], [Stopped("stopped by SIGTERM"), UserError("refused"), None, None]

    def make(invocation, directory, *_):
        seed = invocation.config.seed
        if seed == 1 and (error := trouble.pop(0)):
            raise error
        done.append(seed)
        result = made(created=datetime.now(UTC).isoformat(), name="digits", config_hash=directory.name)
        write_json(directory / "result.json", result.as_json())
        return result

    monkeypatch.setattr(experiment, "_make", make)
    monkeypatch.setattr(sweep.Sweep, "_report", lambda *_: None)
    words = "-m", "seed=0,1", "student=resnet8", "rerun=true"
    for code in (128 + 15, 1):
        with pytest.raises(SystemExit) as ended:
            command_here(*words)
        assert ended.value.code == code and done == [0]
    assert command_here(*words).count("this sweep has repeated it") == 1 and done == [0, 1]
    command_here(*words)
    assert done == [0, 1] * 2


def test_a_cell_of_several_processes_is_started_once_and_its_result_recorded(monkeypatch, tmp_path):
    cfg = OmegaConf.to_container(config.compose(["logger=none", f"paths.runs={tmp_path}"]), resolve=True)
    cfg["trainer"] |= {"strategy": "ddp", "devices": 2}
    started = []

    class Torchrun:
        def __init__(self, words, env, **_):
            started.append((words, env["DISTILLAB_SWEEP"]))
            write_json(home(parse(cfg)) / "result.json", made(top1=0.5).as_json())

        def wait(self):
            return 0

    monkeypatch.setattr(cli.subprocess, "Popen", Torchrun)
    monkeypatch.setattr(cli, "strategy_conflicts", list)
    for _ in range(2):
        asked = Invocation(parse(cfg), "kd", "typed", ["strategy=kd"], tmp_path / "study")
        assert cli._run(asked).primary.value == 0.5
    ((words, folder),) = started
    assert "--nproc-per-node=2" in words and words[-2:] == ["strategy=kd", "hydra.mode=RUN"]
    assert folder == str(tmp_path / "study")


def cell(started, ended=None, **more):
    return {"started": started, "earlier": False} | ({} if ended is None else {"ended": ended}) | more


@pytest.mark.parametrize(
    ("records", "cells", "left"),
    [
        ([cell(0)], 4, None),
        ([cell(0, 10), cell(10, 30), cell(30)], 5, 15 * 3),  # this one and two to come
        ([cell(0, 1, earlier=True), cell(1, 2, earlier=True), cell(30)], 5, None),  # skipped cells cost nothing
        ([cell(0, 10), {"started": 10, "ended": 11, "error": "x"}, cell(30)], 4, 10 * 2),
        ([cell(0, 20), cell(20), cell(30)], 5, (10 + 20 + 2 * 20) / 2),  # two at once; one is halfway
        ([cell(0, 5), cell(5), cell(30)], 3, 5 / 2),  # one takes longer than the mean: it is never negative
        ([cell(0, 10), cell(30), {}, {}], 5, 10 * 4),  # two wait for a device: they are still to come
        ([cell(0, 10), cell(30)], None, None),
    ],
)
def test_the_time_left_follows_from_the_cells_that_ran(records, cells, left):
    for record in records:
        if record and "ended" not in record:
            del record["earlier"]
    assert sweep.seconds_left(records, cells, 30.0) == left


def test_a_cell_that_waits_for_a_device_has_not_started(monkeypatch, tmp_path, capsys):
    """Its timer, and with it every estimate, begins once it holds the device."""
    from contextlib import contextmanager

    from distillab.commands import devices, experiment

    @contextmanager
    def held(trainer, several):
        assert "started" not in sweep.recorded(tmp_path)[0] and not capsys.readouterr().out
        yield

    cfg = OmegaConf.to_container(config.compose(["logger=none", f"paths.runs={tmp_path}"]), resolve=True)
    monkeypatch.setattr(devices, "devices_of_a_cell", held)
    monkeypatch.setattr(cli, "strategy_conflicts", list)
    monkeypatch.setattr(experiment, "run", lambda *_: made(created="2999-01-01T00:00:00+00:00"))
    one = sweep.Cell(tmp_path, 0, "kd", "resnet8")
    one.run(lambda: cli._run(Invocation(parse(cfg), "kd"), one.begin), str)
    (record,) = sweep.recorded(tmp_path)
    assert record["started"] <= record["ended"] and not record["earlier"]
    assert capsys.readouterr().out == "cell 1 · kd, resnet8\n"


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5370, "1 h 30 min")])
def test_durations_are_rough(seconds, said):
    assert sweep.duration(seconds) == said


def test_the_launcher_leaves_the_hash_alone():
    hashes = {config_hash(OmegaConf.to_container(config.compose([f"launcher={name}"]), resolve=True)) for name in
              ("basic", "joblib", "submitit", "ray")}  # fmt: skip
    assert len(hashes) == 1


def test_a_missing_launcher_names_its_package():
    from hydra.errors import MissingConfigException

    line = cli.one_line(MissingConfigException("…", "hydra/launcher/joblib", ["basic"]))
    assert line.startswith("hydra/launcher=joblib is not installed") and 'pip install "distillab[sweeps]"' in line


def test_text_of_errors_breaks_no_table():
    records = [{"strategy": "kd", "student": "s", "overrides": ["a=[x]", "seed=0"], "started": 0.0}] * 2
    records = [records[0], records[1] | {"error": "a | b [/red]", "overrides": ["a=[y]", "seed=0"], "ended": 1.0}]
    page = sweep.markdown({"cells": 2, "command": "c"}, records)
    assert "1 of 2 cells have ended" in page and "| a=[x] |" in page and "not finished |" in page
    assert r"failed: a \| b [/red] |" in page
    from rich.console import Console

    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(terminal(table(records)))
    assert "failed: a | b [/red]" in console.export_text()
    ended = [record | {"protocol": protocol} for record, protocol in zip(records, ("paper", "standard"), strict=True)]
    assert "The sweep's cells, protocol paper and standard:" in sweep.markdown({"cells": 2, "command": "c"}, ended)
    assert table(ended[:1]).title == "The sweep's cells, protocol paper"


def test_records_are_json_that_outlives_the_command(tmp_path):
    began = sweep.Cell(tmp_path, 0, "kd", "resnet8", overrides=["seed=0"])
    began.begin()
    with pytest.raises(KeyboardInterrupt):
        began.run(lambda: (_ for _ in ()).throw(KeyboardInterrupt()), str)
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("cells/*.json")]
    assert "ended" not in record and "| not finished |" in (tmp_path / "sweep.md").read_text()


def test_only_whole_results_are_shown_and_failed_cells_are_told_whatever_the_page_says(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "elsewhere"  # as by hydra.sweep.dir
    whole = made().as_json()
    edited = merged(whole, {"student": {"metrics": {"top1": 95.0}}})
    runs = {"whole": whole, "edited": edited, "list": []}
    for number, (name, content) in enumerate(runs.items()):
        write_json(tmp_path / "runs" / "digits" / name / "result.json", content)
        record = {"strategy": "kd", "student": "resnet8", "overrides": [], "score": 0.95, "run": f"digits/{name}"}
        write_json(folder / "cells" / f"{number}.json", record | {"ended": 1.0, "earlier": False, "started": 0.0})
    assert [result.primary.value for result in sweep.results(folder, tmp_path / "runs")] == [0.95]

    def broken(self, folder, runs):
        raise ValueError("no page")

    monkeypatch.setattr(sweep.Sweep, "_report", broken)
    monkeypatch.setattr(sweep, "failures", [])
    write_json(folder / "sweep.json", {"cells": 4, "command": "typed"})
    with pytest.raises(ValueError, match="no page"):
        settings = {"paths": {"runs": str(tmp_path / "runs")}, "hydra": {"sweep": {"dir": str(folder)}}}
        sweep.Sweep().on_multirun_end(OmegaConf.create(settings))
    assert "error: 1 of 4 cells failed" in capsys.readouterr().err


def test_the_end_of_a_sweep_has_a_line_for_each_method_over_its_runs(tmp_path, capsys):
    """Cells tell single runs; which method is best, and by how much, is a matter of all of them."""
    for number, run in enumerate((*over_seeds("hint", HINT[:3]), *over_seeds("kd", KD[:3]))):
        write_json(tmp_path / "runs" / "digits" / run.config_hash / "result.json", run.as_json())
        cell = {"strategy": run.strategy, "student": "resnet8", "overrides": [], "run": f"digits/{run.config_hash}"}
        write_json(tmp_path / "sweep" / "cells" / f"{number}.json", cell)
    sweep.Sweep()._report(tmp_path / "sweep", tmp_path / "runs")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (best,) = [line for line in lines if line[:3] == ["1", "hint", "resnet8"]]
    mean, gain = (f"{100 * np.mean(each):.2f}" for each in (np.add(BASELINE[:3], HINT[:3]), HINT[:3]))
    assert best[3:6] == [mean, "±", best[5]] and f"+{gain}" in best
    assert [line[:2] for line in lines if line[1:2] in (["kd"], ["student"]) and line[0].isdigit()] != []
