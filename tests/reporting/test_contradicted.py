"""A result with figures that its own answers contradict, as one that was edited by hand, is on no page."""

import json

import numpy as np
import pytest
from helpers.made_results import edited, made, merged

from distillab.core.result_reader import load_all
from distillab.reporting.answers import read_answers
from distillab.reporting.leaderboard import update
from distillab.reporting.report import write_report

RIGHT = {"student": 380, "baseline": 372, "teacher": 388, "random": 300}  # of 400


def written(runs, name, **changes):
    """A result whose answers give its figures, and then the changes, of which no gain tells."""
    random = made().baseline.model_dump() | {"metrics": {"top1": 0.75}}
    run = edited(made(name, random=random, config_hash=name), student={"metrics": {"nll": 0.25}})
    content = merged(run.as_json(), changes)
    content["gain"] = 0.95 - content["random"]["metrics"]["top1"]
    folder, labels = runs / "digits" / name, np.arange(400) % 10
    folder.mkdir(parents=True)
    answers = {role: np.where(np.arange(400) < many, labels, labels + 1) for role, many in RIGHT.items()}
    np.savez(folder / "predictions.npz", labels=labels, nll_student=np.full(400, 0.25, np.float32), **answers)
    (folder / "result.json").write_text(json.dumps(content))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("role", "figure", "value"),
    [("baseline", "top1", 0.5), ("teacher", "top1", 0.96), ("student", "nll", 0.3), ("random", "top1", 0.5)],
)
def test_a_result_that_its_answers_contradict_is_left_out_and_named(tmp_path, role, figure, value):
    written(tmp_path, "hint")
    written(tmp_path, "kd", **{role: {"metrics": {figure: value}}})
    results, damaged = load_all(tmp_path)
    assert len(results) == 2 and damaged == []
    believed, answers, (line,) = read_answers(results, tmp_path)
    assert [one.strategy for one in believed] == ["hint"] and answers.keys() == {"hint"}
    assert line.startswith(f"{tmp_path}/digits/kd/result.json is left out: `{role}.metrics.{figure}` is {value}, and")
    update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    for page in ("leaderboard.md", "report.md"):
        shown = (tmp_path / page).read_text()
        assert f"- {line}" in shown and "| hint " in shown and "| kd " not in shown
