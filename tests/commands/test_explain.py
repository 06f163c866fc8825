import sys

import pytest

from distillab.commands import cli
from distillab.commands.composition import choices
from distillab.commands.explain import asked_about, explain
from distillab.core.errors import UserError


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["explain", "hint", "kd"], ["hint", "kd"]),
        (["strategy=[kd,hint]", "--help"], ["kd", "hint"]),
        (["-h", "strategy=kd"], ["kd"]),
        (["--help"], []),
        (["strategy=kd"], []),
        (["explain", "mine", "--config-dir", "kd"], ["mine"]),
        (["--config-dir=kd", "explain", "mine"], ["mine"]),
        (["-cd", "kd", "strategy=mine", "--help"], ["mine"]),
    ],
)
def test_what_is_asked_about(words, names):
    assert asked_about(words) == names


def test_a_strategy_is_explained_with_its_source_needs_numbers_and_phases():
    told = explain("hint_two_phase")
    for part in ("arXiv 1412.6550", "strategy.hint: distillab.strategies.hint.Hint", "Mean squared error of two feature",
                 "Reads student.stages, teacher.stages.", "strategy.hint.weight=100.0", "strategy.hint.stage=middle",
                 "strategy.kd.temperature=4.0", "strategy.phases.0: {epochs:0.25,terms:[hint]"):  # fmt: skip
        assert part in told, part


@pytest.mark.parametrize("name", choices("strategy"))
def test_every_strategy_has_something_to_say_of_each_term(name):
    for part in explain(name).split("\n\n")[1:]:
        lines = part.splitlines()
        assert lines[0].startswith(("phases", "with task=")) or (
            len(lines) > 2 and any("Reads " in line for line in lines)
        ), part


def test_the_tasks_that_a_file_serves_are_told():
    assert explain("attention_map").split("\n\n")[0].endswith("\nfor task=causal_lm alone")


def test_the_numbers_of_a_task_stand_at_the_end():
    assert explain("kd").endswith("\n\nwith task=causal_lm\n    strategy.ce.weight=0.5\n    strategy.kd.weight=0.5\n    "
                                  "strategy.kd.temperature=1.0")  # fmt: skip


@pytest.mark.parametrize(
    "words", [["explain", "my one", "--config-dir", "[my] conf"], ["--help", "strategy=my one", "-cd=[my] conf"]]
)
def test_a_strategy_of_the_persons_own_is_explained(tmp_path, monkeypatch, capsys, words):
    """By any spelling of the command, and whatever the folder is called; one that hides a shipped one is refused."""
    (tmp_path / "[my] conf" / "strategy").mkdir(parents=True)
    term = "ce: {_target_: distillab.strategies.ce.CrossEntropy, weight: 0.3}"
    (tmp_path / "[my] conf" / "strategy" / "my one.yaml").write_text(f"# Mine, 2026.\n{term}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(cli.TRACEBACK, "1")
    cli.main()
    told = capsys.readouterr().out
    assert told.startswith("strategy=my one\nMine, 2026.\n") and "strategy.ce.weight=0.3" in told
    with pytest.raises(UserError, match=r'no strategy "my own"; did you mean "my one"\?'):
        explain("my own", tmp_path / "[my] conf")


def test_an_unknown_strategy_is_one_line():
    with pytest.raises(UserError, match=r'no strategy "fitnet"; did you mean "hint"\? \(allowed: ab'):
        explain("fitnet")
    with pytest.raises(UserError, match="distillab explain hint"):
        asked_about(["explain"])
