"""The sentences of one run, and how figures are written."""

import pytest
from helpers.made_results import edited, made
from helpers.made_study import full

from distillab.core.cost_parts import Cost, EqualCompute
from distillab.reporting import metric_table, run_end, words
from distillab.reporting.comparison import compare
from distillab.reporting.cost_words import words as cost_words
from distillab.reporting.leaderboard import leaderboard
from distillab.reporting.model_card import model_card
from distillab.reporting.sections import limits
from distillab.reporting.sweep_table import table

GAP = {"value": 0.04, "low": 0.01, "high": 0.07}
OVER = "over the same student alone"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            made("kd", paired={"value": 0.02, "low": 0.003, "high": 0.037}, gap=GAP),
            f"Distillation brought 2.00 points {OVER} (95 % interval 0.30 to 3.70 on 400 test images); it speaks of these two "
            "trained files, not of the methods; 50 % of the gap to the teacher.",
        ),
        (
            made("kd", 0.91, paired={"value": -0.02, "low": -0.037, "high": -0.003}, gap=GAP),
            f"Distillation lost 2.00 points {OVER} (95 % interval −3.70 to −0.30 on 400 test images); it speaks of these two "
            "trained files, not of the methods.",
        ),
        (
            made("kd", paired={"value": 0.02, "low": -0.01, "high": 0.05}, gap=GAP | {"low": -0.01}),
            f"No difference shown: +2.00 points {OVER} (95 % interval −1.00 to 5.00 on 400 test images); it speaks of these two "
            "trained files, not of the methods.",
        ),
        (made("kd"), f"Distillation: +2.00 points {OVER}; one run says nothing of the methods (seed=0,1,2)."),
        (
            made("kd", 0.95, None, 0.97),
            "resnet8 reaches 95.00 % top-1; what distillation itself brought is unknown without the same student trained "
            "alone (baseline=true).",
        ),
        (made("none", 0.95, None, None), "resnet8 alone, without a teacher, reaches 95.00 % top-1."),
        (
            made("kd", longer={"epochs": 12, "metrics": {"top1": 0.96}}),
            f"Distillation: +2.00 points {OVER}; one run says nothing of the methods (seed=0,1,2); −1.00 points over it trained "
            "for at least what a live teacher costs (12 epochs).",
        ),
    ],
)
def test_verdict(given, sentence):
    assert words.verdict(given) == sentence


def test_repeated_errors_are_an_excess_over_the_student_alone():
    """Not over chance, as images are hard for both; without the student alone nothing is said."""
    run = full("kd", 0.95, 0)
    said = "Of the teacher's 12 errors the student repeats 6 and the student alone 4: +2 by distillation (95 % interval −1 to +5), no difference shown."
    assert words.errors_words(run) == said
    (view,) = limits(compare([run])).views
    assert said in model_card(run) and said in view.text
    assert "by chance" not in model_card(run)
    assert words.errors_words(edited(run, student={"against_teacher": {"excess": None}})) == ""


def test_a_spoiled_calibration_is_a_warning_on_card_and_report():
    worse = {
        "nll": {"value": 0.1, "low": 0.04, "high": 0.16},
        "calibration_error": {"value": 0.02, "low": 0.01, "high": 0.03},
    }
    run = full("kd", 0.95, 0).changed(against_alone=worse)
    said = words.calibration_words(run)
    assert said == (
        "Warning: distillation spoils the student's probabilities on test, against the student alone: negative "
        "log-likelihood +0.100 (0.040 to 0.160) and calibration error +2.00 (1.00 to 3.00)."
    )
    (view,) = limits(compare([run])).views
    assert said in model_card(run) and said in view.text
    unsure = {key: one | {"low": -0.01} for key, one in worse.items()}
    assert words.calibration_words(run.changed(against_alone=unsure)) == ""
    assert (
        words.calibration_words(run.changed(against_alone=worse | {"nll": unsure["nll"]})).count("log-likelihood") == 0
    )


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (5, "5"), (78_042, "78.0 k"), (1_819_066_368, "1.82 G"), (272_474, "272 k")]
)
def test_counts_have_three_digits(number, text):
    assert metric_table.count(number) == text


def test_figures_are_written_with_the_minus_sign():
    top1, nll = metric_table.metric("top1"), metric_table.metric("nll")
    assert metric_table.percent(-0.5, 0) == "−50" and metric_table.decimals(-0.5) == "−0.500"
    assert (top1.gain(-0.012), nll.gain(-0.012)) == (
        "−1.20 points",
        "−0.012 in negative log-likelihood (less is better)",
    )
    assert words.interval(-0.03, -0.01, top1) == "−3.00 to −1.00"
    unknown = metric_table.metric("error", higher_is_better=False)
    assert (unknown.label, unknown.form(0.25), unknown.scale) == ("error", "0.250", 1)


@pytest.mark.parametrize(
    ("result", "labels", "told"),
    [
        (
            made(),
            ({"labelled": 0.1}, {"labelled": 1.0}),
            ", and the teacher, which learned from all, answered for the others; data.labelled=1.0 shows all of them to "
            "the student.",
        ),
        (
            made(),
            ({"labelled": 0.1}, {"labelled": 0.1}),
            ", and the teacher answered for the others; data.labelled=1.0 shows all of them to the student.",
        ),
        (
            made(),
            ({"labels": "teacher"}, {"labelled": 1.0, "checkpoint": "teacher.pt"}),
            ", and the teacher answered for the others; data.labels=all shows all of them to the student.",
        ),
        (made("none", 0.9, None, None), ({"labelled": 0.1}, {"labelled": 1.0}), "."),
    ],
)
def test_a_run_with_few_labels_says_who_answered_for_the_others(result, labels, told):
    data, teacher = labels
    few = edited(result, data={"labelled": 120, "train": 1200}, config={"data": data, "teacher": teacher})
    known = "Labels were scarce: the student knew 120 of 1,200 training labels"
    assert run_end.scarce_labels(few) == known + told and known + told in model_card(few)
    assert run_end.scarce_labels(result) == ""


def test_one_gain_is_one_text_on_every_page():
    """−0.25 points was −0.3 in sentences and −0.25 in tables."""
    run = made("kd", 0.9475, 0.95, paired={"value": -0.0025, "low": -0.0325, "high": 0.0275}, gap=GAP)
    told = "−0.25"
    assert told in words.verdict(run) and "(95 % interval −3.25 to 2.75" in words.verdict(run)
    assert run_end.final_table(run).texts[-1][2] == told
    assert f"| {told} |" in model_card(run)
    (row,) = (row for row in compare([run]) if row.kind == "distilled")
    assert told in words.row_words(row) and told in leaderboard([row]).texts[0]
    assert told in words.brief(row.gain, row.metric)
    record = {
        "primary": "top1",
        "gain": run.gain,
        "score": 0.9475,
        "overrides": [],
        "strategy": "kd",
        "student": "resnet8",
    }
    assert told in table([record]).texts[0]
    costing = EqualCompute(gain_equal_steps=run.gain)
    (said,) = cost_words(Cost(equal_compute=costing), words.primary(run).gain)
    assert f"brought {told} points" in said
