"""What a person reads at the end of a run: ten lines, of which the first are a table."""

from pathlib import Path

import pytest
from helpers.made_results import edited, exported_file, made
from helpers.made_study import full

from distillab.reporting.run_end import final_table, show

FOLDER = Path("runs/digits/0123456789")


def lines_of(result, capsys, folder=FOLDER):
    show(result, folder)
    return capsys.readouterr().out.rstrip("\n").split("\n")


def test_the_end_of_a_run_is_ten_lines(capsys):
    """With everything that a run can have: table, verdict, cost, places."""
    known = {"efficiency": {"device": "cpu", "threads": 16}}
    run = edited(full("attention+dkd", 0.95, 0, data={"name": "digits", "train": 1200, "test": 400}),
                 limits={"sentences": ["A class is hurt."] * 5}, student=known, teacher=known, baseline=known,
                 paired={"value": 0.01, "low": -0.003, "high": 0.037})  # fmt: skip
    lines = lines_of(run, capsys)
    assert len(lines) <= 10
    table, (verdict, cost, where) = lines[:-3], lines[-3:]
    assert max(map(len, table)) <= 140 and all(line.strip() for line in lines)
    models = (
        "teacher: resnet34",
        "student alone: resnet8",
        "student alone, 12 epochs: resnet8",
        "student, attention+dkd: resnet8",
    )
    assert [line.strip().split("  ")[0] for line in table[-4:]] == list(models), "no row is broken"
    assert table[0].startswith("digits, protocol standard, 400 test images") and table[0].rstrip().endswith(
        "(…): of the teacher"
    )
    assert verdict.startswith(
        "No difference shown: +1.00 points over the same student alone (95 % interval −0.30 to 3.70"
    )
    assert (
        cost
        == "Cost: 16.0 s of training, 20.0 s before it to train the teacher (or its head), once for all runs that share it."
    )
    assert "runs/digits/0123456789: README.md (the model card), result.json" in where and "runs/leaderboard.md" in where
    assert not any("hurt" in line for line in lines), "the card and the report have the rest"


@pytest.mark.parametrize("run", [made(), made("none", 0.9, None, None), made("kd", 0.95, None)])
def test_an_end_with_less_is_shorter(run, capsys):
    assert len(lines_of(run, capsys)) <= 8


def test_the_table_compares_with_the_teacher_and_the_student_trained_longer():
    shown = {row[0]: row for row in final_table(full("kd", 0.95, 0)).texts}
    assert list(shown) == [
        "teacher: resnet34",
        "student alone: resnet8",
        "student alone, 12 epochs: resnet8",
        "student, kd: resnet8",
    ]
    assert shown["student, kd: resnet8"][1:] == [
        "95.00", "+1.00", "78.0 k (0.4 %)", "3.12 M (0.4 %)", "1.25 ms (100 %)", "312 kB (0.4 %)",
    ]  # fmt: skip
    assert shown["student alone, 12 epochs: resnet8"][1:3] == ["93.50", "−0.50"]
    (alone,) = final_table(made("none", 0.9, None, None)).texts
    assert alone[:3] == ["student alone: resnet8", "90.00", "–"]


def test_an_exported_file_has_one_line(capsys, tmp_path):
    run = made().changed(exports=[exported_file(), exported_file("student.int8.onnx", "int8", same_answers=0.99999)])
    *_, student, first, second = final_table(run).texts
    assert student[0] == "student, kd: resnet8"
    assert first == [
        "student.onnx: 99.5 % the same answers", "94.00", "+1.00", "–", "–", "0.50 ms (40 %)", "320 kB (0.4 %)",
    ]  # fmt: skip
    assert second[0] == "student.int8.onnx: 99.99 % the same answers", "never rounded up to all"
    busy = made().changed(exports=[exported_file(latency_spread=0.5)])
    assert final_table(busy).texts[-1][5] == "0.50 ms", "no share where the machine was busy"
    lines = lines_of(run, capsys)
    assert len(lines) == len(lines_of(made(), capsys)) + 2
    folder = tmp_path / "digits" / "0123456789"
    (folder / "student").mkdir(parents=True)
    for name in ("student.safetensors", "student.onnx"):
        (folder / name).touch()
    (*_, last) = lines_of(run, capsys, folder)
    assert "result.json, student.safetensors, student/, student.onnx; over all runs" in last, "those that are there"


def test_a_busy_machine_compares_no_latency():
    for spread, told in ((0.01, "2.00 ms (100 %)"), (2.0, "2.00 ms")):
        known = {"efficiency": {"latency_ms": 2.0, "latency_spread": spread}}
        (*_, student) = final_table(edited(made(), student=known, teacher=known)).texts
        assert told in student, student


def test_the_title_says_protocol_samples_and_a_busy_machine():
    known = {"efficiency": {"device": "cpu", "threads": 1, "latency_spread": 2.0}}
    title = final_table(edited(made(protocol="paper"), student=known)).title
    assert (
        title
        == "digits, protocol paper, 400 test images · cpu, 1 thread, busy: no speed is certain · (…): of the teacher"
    )
    assert final_table(made("none", 0.9, None, None, data={"name": "x"})).title == "x, protocol standard, test images"
