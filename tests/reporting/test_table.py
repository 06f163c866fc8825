"""The last table of a run, and its sentence."""

import pytest
from helpers.made_results import edited, made

from distillab.reporting import metric_table, table

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


def test_the_protocol_of_papers_is_told_with_the_best_and_the_last_epoch():
    known = {"metrics": {"top1_best": 0.96, "top1_last": 0.945}, "efficiency": {"device": "cpu", "threads": 1}}
    paper = edited(made(protocol="paper"), student=known)
    assert table.verdict(paper).endswith(" Best epoch on test 96.00 %, last epoch 94.50 %.")
    shown = table.final_table(paper)
    assert shown.title == "digits, protocol paper: accuracy on 400 test samples"
    assert shown.caption == "In brackets: share of the teacher's. Measured on cpu, 1 thread."
    assert table.final_table(made("none", 0.9, None, None)).caption == ""


def test_standard_error_is_the_spread_of_many_tests():
    import numpy as np

    draws = np.random.default_rng(0).binomial(400, 0.9, size=20_000) / 400
    assert table.standard_error(made(top1=0.9), "student") == pytest.approx(draws.std(), rel=0.03)


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
    assert metric_table.count(number) == text


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
    assert table.further(few)[0] == known + told
    assert not any("Labels were scarce" in said for said in table.further(result))
