"""What makes a gain worth nothing is told wherever the gain is."""

import pytest
from helpers.made_results import made, put

from distillab.reporting import doubts, run_end
from distillab.reporting.comparison import compare, tables, verdicts
from distillab.reporting.leaderboard import leaderboard, update
from distillab.reporting.model_card import model_card
from distillab.reporting.verdict_words import verdict_words

CHANCE = "hardly better than chance (10.00 %): comparing such networks says nothing of a method."
WEAK = "Warning: the teacher (60.00 % top-1) is worse than the student alone (70.00 % top-1), and has little to teach."


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (made("kd", 0.8, 0.7, 0.9), ""),
        (made("kd", 0.8, 0.7, 0.7), ""),  # as good as the student alone: of the same size, for example
        (made("kd", 0.8, 0.7, 0.6), WEAK),
        (made("kd", 0.8, 0.12, 0.9), f"Warning: the student alone (12.00 %) is {CHANCE}"),
        (made("kd", 0.11, 0.12, 0.9), f"Warning: the student alone (12.00 %) and the student (11.00 %) are {CHANCE}"),
        (made("kd", 0.11, None, 0.9), f"Warning: the student (11.00 %) is {CHANCE}"),
        (made("none", 0.11, None, None), f"Warning: the student alone (11.00 %) is {CHANCE}"),
        (made("none", 0.8, None, None), ""),
        (made("kd", 0.55, 0.7, 0.9, data={"name": "pairs", "classes": 2, "test": 400}),
         f"Warning: the student (55.00 %) is {CHANCE.replace('10', '50')}"),
    ],
)  # fmt: skip
def test_doubts_of_a_run_are_told_in_card_and_terminal(run, told, tmp_path, capsys):
    assert doubts.of_run(run) == told
    card = model_card(run)
    assert told in card and ("Warning" in card) == bool(told)
    run_end.show(run, tmp_path / "runs" / "digits" / "x")
    shown = capsys.readouterr().out
    assert told in shown and ("Warning" in shown) == bool(told)


def test_doubts_of_rows_are_told_in_verdict_note_and_leaderboard(tmp_path):
    """Of the student alone, too, where no method is ahead of it."""
    runs = [made("kd", 0.11 + 0.01 * seed, 0.13, 0.9, config={"seed": seed}, seeds={"seed": seed}) for seed in (0, 1)]
    (table,) = tables(compare(runs)).values()
    distilled, alone = (next(row for row in table if row.kind == kind) for kind in ("distilled", "alone"))
    assert doubts.of_row(distilled) == f"Warning: the student alone (13.00 %) and the student (11.50 %) are {CHANCE}"
    assert doubts.of_row(alone) == f"Warning: the student alone (13.00 %) is {CHANCE}"
    (said,) = map(verdict_words, verdicts(table))
    assert doubts.of_row(alone) in said
    assert [CHANCE in note for note in leaderboard(table).notes] == [True, True]
    put(tmp_path, *runs)
    update(tmp_path)
    assert CHANCE in (tmp_path / "leaderboard.md").read_text()


def test_a_teacher_is_compared_with_random_weights_where_a_head_was_fitted():
    """A teacher between random weights and the student alone has something to teach."""
    weights = made("foundation", 0.8, 0.9, 0.6).student.model_copy(update={"metrics": {"top1": 0.5}})
    assert doubts.of_run(made("foundation", 0.8, 0.9, 0.6, random=weights)) == ""
    worse = doubts.of_run(made("foundation", 0.8, 0.9, 0.4, random=weights))
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
