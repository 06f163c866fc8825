"""A method against itself, from the cells of a sweep to the page."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.made_results import made

from distillab.commands import aa
from distillab.core.errors import UserError
from distillab.core.files import write_json
from distillab.evaluation import kept


def put(place, strategy, seeds, images=200, error=None, **changes):
    """The cells of a sweep and their results, all with the same chance of a right answer on each image."""
    for seed in seeds:
        easy = np.random.default_rng(0).beta(3, 1, size=images)
        right = np.random.default_rng([seed, len(strategy)]).random(images) < easy
        name = f"{strategy}{seed:03d}"
        record = {
            "strategy": strategy,
            "student": "resnet8",
            "overrides": ["sweep=aa", f"strategy={strategy}", f"seed={seed}"],
        }
        number = len(list((place / "sweep").glob("cells/*.json")))
        if error is None:
            config = {"seed": seed, "vary": ["init", "split"]}
            result = made(
                strategy, float(right.mean()), None, config=config, config_hash=name, seeds={"seed": seed}, **changes
            )
            folder = place / "runs" / "digits" / name
            write_json(folder / "result.json", result.as_json())
            kept.write(folder / kept.NAME, {"labels": np.ones(images, int), "student": right.astype(int)})
            record["run"] = f"digits/{name}"
        write_json(place / "sweep" / "cells" / f"{number:05d}.json", record)


def reported(place):
    aa.Report()._report(place / "sweep", place / "runs")
    return (place / "sweep" / "aa.md").read_text()


def test_the_page_has_one_table_a_verdict_and_what_the_splits_are_worth(tmp_path, capsys):
    put(tmp_path, "kd", range(9))
    page = reported(tmp_path)
    assert page.startswith("# kd against itself\n")
    assert "| 4 runs a side, by their scores | 35 |" in page  # the ninth has no partner
    assert "| 4 runs a side, by their scores and test samples | 35 |" in page
    assert "| 1 run a side, by test samples: speaks of two trained files | 28 |" in page
    assert "8 runs of each method, with new initialisations and splits, halved in 35 ways" in page
    assert "The splits share their runs, so they are no independent tests" in page
    said = capsys.readouterr().out
    assert "a difference is shown in" in said and "within what a right test gives (0.0 to" in said
    assert "kd against itself" in said and str(tmp_path / "sweep" / "aa.md") in said


def test_several_methods_are_one_family_and_cells_that_failed_are_left_out(tmp_path, capsys):
    put(tmp_path, "kd", range(6))
    put(tmp_path, "hint", range(5))
    put(tmp_path, "hint", [5], error="the disk is full")
    methods = aa.read(tmp_path / "sweep", tmp_path / "runs")
    assert [(one.label, sorted(one.runs)) for one in methods] == [("kd", [*range(6)]), ("hint", [*range(5)])]
    page = reported(tmp_path)
    assert page.startswith("# kd, hint against themselves") and "the 2 methods of a split corrected together" in page
    assert "| 2 runs a side, by their scores | 3 |" in page and "; hint " in page


def test_a_damaged_file_of_answers_leaves_the_scores(tmp_path, capsys):
    put(tmp_path, "kd", range(4))
    (tmp_path / "runs" / "digits" / "kd002" / kept.NAME).write_text("half")
    page = reported(tmp_path)
    assert "by their scores | 3 |" in page and "test samples" not in page.partition("2 runs of")[0]
    assert "kd002/predictions.npz: no answers of test samples; left out" in capsys.readouterr().out


def test_too_few_runs_are_refused_in_one_line(tmp_path):
    put(tmp_path, "kd", range(3))
    with pytest.raises(UserError, match=r"needs 4 runs of each method, got 3: seed=range\(10\)"):
        reported(tmp_path)


def test_too_many_false_ones_are_said():
    study = SimpleNamespace(tested=SimpleNamespace(value=0.3), low=0.0, high=0.1)
    assert aa.verdict(study) == (
        "a difference is shown in 30.0 % of the splits, and a right test gives 0.0 to 10.0 %: too many false ones"
    )
    few = SimpleNamespace(tested=SimpleNamespace(value=1 / 3), low=0.0, high=2 / 3)
    assert aa.verdict(few).endswith("(0.0 to 66.7 %): too few runs to tell (seed=range(20))")
