"""What makes a gain worth nothing is told wherever the gain is."""

import pytest
from helpers.made_results import edited, made, put

from distillab.reporting import doubts, run_end
from distillab.reporting.comparison import compare, tables, verdicts
from distillab.reporting.leaderboard import leaderboard, update
from distillab.reporting.model_card import model_card
from distillab.reporting.verdict_words import table_words, verdict_words

CHANCE = "hardly better than chance (10.00 %): comparing such networks says nothing of a method."
WEAK = "Warning: the teacher (60.00 % top-1) is worse than the student alone (70.00 % top-1), and has little to teach."
BELOW = {"value": -0.1, "low": -0.15, "high": -0.05}


def balanced(run, **figures):
    return edited(run, **{role: {"metrics": {"balanced_accuracy": figure}} for role, figure in figures.items()})


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (made("kd", 0.8, 0.7, 0.9), ""),
        (made("kd", 0.8, 0.7, 0.6, gap=BELOW), WEAK),
        (made("kd", 0.8, 0.7, 0.6, gap=BELOW | {"high": 0.01}), ""),  # not shown, as for a teacher of the student's size
        (made("kd", 0.8, 0.12, 0.9), f"Warning: the student alone (top-1 12.00 %) is {CHANCE}"),
        (made("kd", 0.11, 0.12, 0.9),
         f"Warning: the student alone (top-1 12.00 %) and the student (top-1 11.00 %) are {CHANCE}"),
        (made("kd", 0.11, None, 0.9), f"Warning: the student (top-1 11.00 %) is {CHANCE}"),
        (made("none", 0.11, None, None), f"Warning: the student alone (top-1 11.00 %) is {CHANCE}"),
        (made("none", 0.8, None, None), ""),
        (made("kd", 0.55, 0.7, 0.9, data={"name": "pairs", "classes": 2, "test": 400}),
         f"Warning: the student (top-1 55.00 %) is {CHANCE.replace('10', '50')}"),
        (balanced(made("kd", 0.9, 0.9, 0.97), student=0.1, baseline=0.6, teacher=0.8),  # nine of ten are of one class
         f"Warning: the student (balanced accuracy 10.00 %) is {CHANCE}"),
    ],
)  # fmt: skip
def test_doubts_of_a_run_are_told_in_card_and_terminal(run, told, tmp_path, capsys):
    assert doubts.of_run(run) == told
    card = model_card(run)
    assert told in card and ("Warning" in card) == bool(told)
    run_end.show(run, tmp_path / "runs" / "digits" / "x")
    shown = capsys.readouterr().out
    assert told in shown and ("Warning" in shown) == bool(told)


def of_seeds(strategy, scores, *figures, seeds=(0, 1), **changes):
    return [made(strategy, top1, *figures, config={"seed": seed, "strategy": {strategy: 1}}, seeds={"seed": seed}, **changes)
            for seed, top1 in zip(seeds, scores, strict=True)]  # fmt: skip


def test_doubts_of_rows_are_told_beside_the_verdict_in_cells_and_in_the_leaderboard(tmp_path):
    """Of every row, also where another one ranks first, and of the student alone."""
    runs = [*of_seeds("kd", (0.11, 0.12), 0.13, 0.9), *of_seeds("hint", (0.5, 0.52), 0.13, 0.9)]
    (table,) = tables(compare(runs)).values()
    rows = {row.label: row for row in table}
    assert (
        doubts.of_row(rows["kd"])
        == f"Warning: the student alone (top-1 13.00 %) and the student (top-1 11.50 %) are {CHANCE}"
    )
    alone = doubts.of_row(rows["student alone"])
    assert alone == doubts.of_row(rows["hint"]) == f"Warning: the student alone (top-1 13.00 %) is {CHANCE}"
    assert "hint ranks first of 3" in verdict_words(*verdicts(table))
    told = [f"hint, resnet8; student alone, resnet8: {alone}", f"kd, resnet8: {doubts.of_row(rows['kd'])}"]
    assert table_words(table)[1:] == told
    board = leaderboard(table)
    assert [CHANCE in note for note in board.notes] == [True] * 3
    gains = {line[1]: line[board.headings.index("gain")] for line in board.texts}
    assert gains == {"hint": "+38.00 (!)", "kd": "−1.50 (!)", "student alone": "–"}
    put(tmp_path, *runs)
    update(tmp_path)
    page = (tmp_path / "leaderboard.md").read_text()
    assert all(line in page for line in told)


def test_a_student_alone_with_two_results_of_one_seed_is_told():
    """Merged folders: gains over another student alone than the one of the table."""
    runs = [
        *of_seeds("hint", (0.8, 0.81), 0.7, 0.9),
        *of_seeds("kd", (0.8, 0.81), 0.75, 0.9),
        *of_seeds("dkd", (0.8, 0.81), 0.7501, 0.9),
    ]
    (table,) = tables(compare(runs)).values()
    said = "Warning: student alone was trained more than once with other results: seed 0 (70.00 % and 75.01 %), seed 1 (70.00 % and 75.01 %)."
    assert table_words(table)[1:] == [f"student alone, resnet8: {said}"]
    (near,) = tables(compare(runs[2:])).values()
    assert table_words(near)[1:] == [], "as far as one machine differs from another"


def test_a_teacher_is_compared_with_random_weights_where_a_head_was_fitted():
    """A teacher between random weights and the student alone has something to teach."""
    weights = made("foundation", 0.8, 0.9, 0.6).student.model_copy(update={"metrics": {"top1": 0.5}})
    assert (
        doubts.of_run(made("foundation", 0.8, 0.9, 0.6, random=weights, gap={"value": 0.1, "low": 0.05, "high": 0.15}))
        == ""
    )
    worse = doubts.of_run(made("foundation", 0.8, 0.9, 0.4, random=weights, gap=BELOW))
    assert worse.startswith(
        "Warning: the teacher (40.00 % top-1) is worse than random weights with a fitted head (50.00 %"
    )


def test_gains_over_two_references_are_told_apart_in_their_column():
    weights = made("foundation", 0.8, 0.7, 0.9).student.model_copy(update={"metrics": {"top1": 0.5}})
    fitted = made("foundation", 0.8, 0.7, 0.9, random=weights, gain=0.3, config_hash="1")

    def gains(*runs):
        board = leaderboard(compare(runs))
        column = board.headings.index("gain")
        return {line[1]: line[column] for line in board.texts}

    both = gains(fitted, made("kd", 0.8, 0.7, 0.9))
    assert (both["foundation"], both["kd"]) == (
        "+30.00 (over random weights with a fitted head)",
        "+10.00 (over student alone)",
    )
    assert gains(fitted)["foundation"] == "+30.00"
