"""How figures are told: busy machines, ends of intervals, shares of a gap, sizes, columns, and one of a kind."""

from helpers.made_results import edited, made
from helpers.made_seeds import HINT, over_seeds

from distillab.reporting import charts
from distillab.reporting.comparison import compare
from distillab.reporting.leaderboard import leaderboard
from distillab.reporting.metric_table import NOTHING
from distillab.reporting.network_sections import deployed
from distillab.reporting.points import points
from distillab.reporting.sweep_table import markdown as sweep_page
from distillab.reporting.tables import Cell, Table, markdown
from distillab.reporting.timings import pooled
from distillab.reporting.words import errors_words, verdict


def lines_of(table):
    return [dict(zip(table.headings, line, strict=True)) for line in table.texts]


def timed(strategy, latency, top1, student=("resnet8", 78_042)):
    place = {"device": "cpu", "threads": 1}
    measured = {"efficiency": {"latency_ms": latency, **place}}
    return edited(
        made(strategy, top1, student=student), teacher={"efficiency": place}, student=measured, baseline=measured
    )


def busy(run, *roles):
    return edited(run, **{role: {"efficiency": {"latency_spread": 1.65}} for role in roles})


def test_a_latency_of_a_busy_machine_is_marked_and_on_no_front():
    """It would be the fastest; timings of a quiet run of the same network count instead."""
    fast, slow = timed("kd", 0.1, 0.96, ("resnet14", 175_258)), timed("hint", 3.0, 0.95)
    rows = [row for row in compare(pooled([busy(fast, "student", "baseline"), slow])) if row.kind == "distilled"]
    known = {row.method: (row.busy, row.front) for row in rows}
    assert "latency_ms" in known["hint"][1] and known["kd"][0] and "latency_ms" not in known["kd"][1]
    assert {"parameters", "multiply_adds"} <= set(known["kd"][1]), "which need no clock"
    board = leaderboard(rows)
    assert {line["method"]: line["latency, ms"] for line in lines_of(board)} == {"kd": "0.10 (busy)", "hint": "3.00"}
    (note,) = (note for row, note in zip(board.texts, board.notes, strict=True) if row[1] == "kd")
    assert "Timed on" not in note and "timed on cpu, 1 thread, busy: no speed is compared" in note
    assert charts.front(points(rows, "latency_ms")) == [(3.0, 0.95)]
    assert [point.note for point in points(rows, "latency_ms") if point.busy] == ["seeds 0, timed on a busy machine"]
    assert not any(point.busy for point in points(rows, "parameters"))
    (view,) = deployed(rows).views
    assert {line["network"]: line["measured on"] for line in lines_of(view.tables[0]) if line["as"] == "student"} == {
        "resnet14": "cpu, 1 thread, busy", "resnet8": "cpu, 1 thread",
    }  # fmt: skip
    quiet = compare(pooled([busy(fast, "student", "baseline"), fast, slow]))
    assert not any(row.busy for row in quiet)


def test_the_intervals_of_the_charts_end_where_shares_do():
    rows = compare(over_seeds("kd", (0.0, 0.08, 0.0)))
    row = next(row for row in rows if row.kind == "distilled")
    assert row.interval.high > 1
    (point,) = (point for point in points(rows, "parameters") if point.series == "kd")
    assert (point.low, point.high) == (row.interval.low, 1.0)


def test_a_negative_share_of_the_gap_is_not_said_and_sizes_have_one_form():
    losses = compare(over_seeds("kd", [-gain for gain in HINT]))
    gains = compare(over_seeds("kd", HINT))
    assert next(row for row in losses if row.kind == "distilled").gap_closed < -0.1
    assert not any("gap to the teacher" in note for note in leaderboard(losses).notes)
    assert any("gap to the teacher closed 18 %" in note for note in leaderboard(gains).notes)
    assert all("size 312 kB" in note for note in leaderboard(gains).notes)


def test_columns_of_text_stand_to_the_left():
    cells = {
        "text": ["5 runs a side", "1 run a side"], "empty": ["", ""], "none": [NOTHING, NOTHING],
        "number": ["1,294", NOTHING], "spread": ["90.57 ± 0.60", "−1.20"], "interval": ["−17.66 to 14.14", "0.10 to 2"],
        "unit": ["78.0 k", "100 %"], "part": ["19.3 M (5 %)", "0.32"], "version": ["2.1.0", "2.1.0"],
        "cell": [Cell("0.10 (busy)", 0.1), Cell("one", 1.0)],
    }  # fmt: skip
    table = Table(list(cells), list(zip(*cells.values(), strict=True)))
    right = ["number", "spread", "interval", "unit", "part", "cell"]
    assert [name for name, number in zip(cells, table.numeric, strict=True) if number] == right
    rule = markdown(table).splitlines()[1].strip("|").split("|")
    assert [name for name, dashes in zip(cells, rule, strict=True) if dashes.strip().endswith(":")] == right


def test_one_of_a_kind_is_said_in_the_singular():
    one = made(data={"name": "digits", "train": 1, "test": 1}, config={"seed": 0, "recipe": {"epochs": 1, "steps": 1}})
    (row,) = (row for row in compare([one]) if row.kind == "distilled")
    assert row.place.words() == "digits, protocol standard, 1 epoch, 1 step, 1 training image"
    assert row.place.words("blocks").endswith("1 training block")
    paired = edited(one, paired={"low": 0.01, "high": 0.03})
    assert "(95 % interval 1.00 to 3.00 on 1 test image)" in verdict(paired)
    excess = {"errors": 1, "repeated": 1, "repeated_alone": 0, "low": 0.0, "high": 1.0}
    assert errors_words(edited(one, student={"against_teacher": {"excess": excess}})).startswith(
        "Of the teacher's 1 error the"
    )
    sweep = {"cells": 1, "command": "python train.py"}
    assert "1 of 1 cell has ended." in sweep_page(
        sweep, [{"ended": 1, "earlier": False, "overrides": [], "strategy": "kd", "student": "resnet8"}]
    )
