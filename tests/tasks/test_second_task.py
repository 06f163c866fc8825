"""A task without images, whose primary figure is an error: nothing between data and report knows what a sample is."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from helpers import small_run
from safetensors.torch import load_file

from distillab.commands import cli
from distillab.core.result_reader import load_all
from distillab.reporting.comparison import compare
from distillab.reporting.model_card import model_card
from distillab.reporting.report import write_report
from distillab.reporting.words import cost_words, verdict

CONF = Path(small_run.__file__).parent / "conf"
WORDS = ("task=vectors", "data=vectors", "student=perceptron", "teacher=perceptron", "teacher.width=64", "logger=none")
WORDS += ("recipe.epochs=4", "teacher.recipe.epochs=8", "data.labelled=0.2", "teacher.labelled=1.0")
WORDS += ("equal_compute=false", "recipe.lr=0.03", f"hydra.searchpath=[file://{CONF}]")


def run(place, *words):
    return small_run.run(place, *words, base=WORDS)


def student(place, result):
    return load_file(place / "runs" / "vectors" / result.config_hash / "student.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def trained(place):
    return run(place, "strategy=kd")


def test_it_is_trained_selected_and_judged_by_its_own_figure(trained):
    assert trained.task == "vector_classification"
    assert (trained.primary.name, trained.primary.higher_is_better) == ("error", False)
    assert trained.primary.value == trained.student.metrics["error"] < 0.5, "chance is 0.75"
    assert trained.gain == pytest.approx(trained.score("baseline") - trained.primary.value)
    curve = [epoch["val/error"] for epoch in trained.student.training.curves]
    assert trained.student.training.epoch == curve.index(min(curve)) + 1, "the least error selects"
    assert not [name for entry in trained.entries.values() for name in entry.metrics if name.startswith("top")]


def test_nothing_is_compared_by_classes_unless_the_task_does_so(place, trained):
    assert trained.limits is None and trained.paired is None
    assert not any(entry.against_teacher for entry in trained.entries.values())
    folder = place / "runs" / "vectors" / trained.config_hash
    assert not (folder / "predictions.npz").exists() and not (folder / "limits.png").exists()


def test_its_teacher_is_cached_and_replayed(place, trained):
    assert trained.cache["computed"] > 0 == trained.cache["read"]
    again = run(place, "strategy=kd", "rerun=true")
    assert again.cache["read"] > 0 == again.cache["computed"]
    assert again.primary == trained.primary


def test_a_stopped_fit_goes_on_to_the_same_weights(place, trained, tmp_path):
    whole = student(place, trained)
    with small_run.stopped_at(9):
        run(tmp_path, "strategy=kd", "baseline=false")
    resumed = run(tmp_path, "strategy=kd", "baseline=false")
    assert resumed.student.training.resumed
    for name, tensor in student(tmp_path, resumed).items():
        assert torch.equal(tensor, whole[name]), name


def test_it_is_ranked_and_reported(place, trained, capsys):
    run(place, "strategy=kd", "seed=1")
    results, left_out = load_all(place / "runs")
    assert len(results) == 2 and not left_out
    (row,) = [row for row in compare(results) if row.kind == "distilled"]
    assert row.method == "kd" and row.place.data == "vectors"
    board = (place / "runs" / "leaderboard.md").read_text()
    assert "vectors" in board and "error" in board
    assert "error" in capsys.readouterr().out


def test_no_page_calls_its_error_a_percentage(place, trained):
    """The gain is in the figure's own unit, and positive because less is better."""
    gain = f"{trained.gain:+.3f}".replace("-", "−")
    assert f" {gain} in error (less is better) over the same student alone" in verdict(trained)
    alone = trained.changed(baseline=None, gain=None, teacher=None, paired=None)
    assert f"reaches {trained.primary.value:.3f} error;" in verdict(alone)
    assert f"brought {gain} in error" in " ".join(cost_words(trained)), "at equal steps"
    path, said, _ = write_report(place / "runs", place / "report.html")
    page = path.with_suffix(".md").read_text()
    (row,) = [one for one in compare(load_all(place / "runs")[0]) if one.kind == "distilled"]
    assert f"{row.mean:.3f} ± {row.interval.deviation:.3f}" in page and said[0] in page
    baselines = [result.score("baseline") for result in row.results]
    assert row.gain.gain == pytest.approx(sum(baselines) / 2 - row.mean)
    card, board = model_card(trained), (place / "runs" / "leaderboard.md").read_text()
    assert gain in card and f"{row.gain.gain:+.3f}".replace("-", "−") in board
    for shown in (page, card, board):
        assert "top-1" not in shown.lower(), "another task's figure"


def test_the_command_takes_it(place, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["train.py", *WORDS, "strategy=kd", f"paths.runs={place}/runs", f"paths.store={place}/store"]
    )
    cli.main()
    told = capsys.readouterr().out
    assert "this run was finished on" in told, shlex.join(WORDS)
    (path,) = [p for p in place.glob("runs/vectors/*/result.json") if json.loads(p.read_text())["seeds"]["seed"] == 0]
    assert json.loads(path.read_text())["primary"]["name"] == "error"
