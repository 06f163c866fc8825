"""The benchmark runs every case and reports ratios; how fast it is no test says."""

import sys

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from distillab import benchmark, benchmark_sweep, benchmark_usual
from distillab.benchmark_loops import BATCH, CLASSES, SHAPE, WARMUP, images_per_second


def noise(count):
    return np.random.default_rng(0).integers(256, size=(count, *SHAPE), dtype=np.uint8)


def test_every_case_runs_and_stands_in_the_table():
    steps, draw = WARMUP + 2, np.random.default_rng(0)
    pixels = noise(BATCH * steps)
    found = benchmark.measure_pair(
        ("resnet8", "resnet8"), pixels, draw.integers(CLASSES, size=len(pixels)), steps, False
    )
    for numbers in found.values():
        assert set(numbers) == set(benchmark.CASES) and all(value > 0 for value in numbers.values())
    assert benchmark.table({"resnet8-resnet8": found}).count("×") == 2 * len(benchmark.CASES)


def test_the_median_step_counts_and_the_warm_up_does_not():
    ends = [0, 9, 18, 27, 28, 29, 60, 61]  # slow at first, and once disturbed
    assert images_per_second(ends) == pytest.approx(BATCH)


def test_repeats_take_turns_with_a_new_cache_each_and_their_median_counts(monkeypatch):
    turns, roots, speeds = [], [], iter([8, 1, 2, 3, 4, 2, 9, 5, 8, 9, 4, 5, 6, 7, 5])

    def case(name):
        def work(*arguments):
            turns.append(name)
            roots.extend(str(one) for one in arguments if hasattr(one, "parent"))
            return next(speeds)

        return work

    for name in ("usual_loop", "bare_student", "ours"):
        monkeypatch.setattr(benchmark, name, case(name))
    monkeypatch.setattr(benchmark, "images_per_second", float)
    found = benchmark.measure_pair(("a", "b"), noise(2), np.zeros(2, int), 5, False, repeats=3)
    assert turns == ["usual_loop", "bare_student", "ours", "ours", "ours"] * 3
    assert len(set(roots)) == 3 and [roots.count(root) for root in roots] == [3] * 9
    assert list(found["images_per_second"].values()) == [4, 5, 5, 7, 5]


@pytest.mark.parametrize(
    ("words", "parts", "numbers"),
    [
        ([], benchmark.PARTS, (20, 3, 4000, 3)),
        (["--quick"], ("pairs",), (6, 1, 128, 1)),
        (["--quick", "--only", "sweep", "--epochs", "2"], ["sweep"], (6, 1, 128, 2)),
    ],
)
def test_what_is_measured_can_be_chosen(words, parts, numbers, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    asked = benchmark.options()
    assert asked.only == parts and (asked.steps, asked.repeats, asked.images, asked.epochs) == numbers


def test_one_step_has_no_distance_to_another(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--steps", "1"])
    with pytest.raises(SystemExit):
        benchmark.options()
    assert "--steps must be at least 2, got 1" in capsys.readouterr().err


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    assert benchmark_sweep.write_images(folder, noise(benchmark_sweep.with_held_out(BATCH))) == BATCH
    return folder


def test_both_sides_of_the_sweep_read_the_same_images_with_every_class_in_each_part(images):
    parts = {part: ImageFolder(images / part) for part in ("train", "val", "test")}
    assert {part: len(data) for part, data in parts.items()} == {"train": BATCH, "val": CLASSES, "test": CLASSES}
    assert parts["val"].class_to_idx == parts["test"].class_to_idx and len(parts["val"].classes) == CLASSES
    assert benchmark_sweep.with_held_out(4000) == 4800
    pixels = noise(benchmark_sweep.with_held_out(BATCH))
    assert (np.asarray(parts["test"][3][0]).transpose(2, 0, 1) == pixels[CLASSES + 3]).all()  # PNG loses nothing


def test_the_usual_program_trains_a_teacher_and_then_reads_it(images, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_usual, "WORKERS", 0)
    taught, step = [], benchmark_usual.step
    monkeypatch.setattr(
        benchmark_usual, "step", lambda net, teacher, *rest: taught.append(teacher) or step(net, teacher, *rest)
    )
    benchmark_usual.run(images, "resnet8", 1, save=tmp_path / "teacher.pt")
    assert 0 <= benchmark_usual.run(images, "resnet8", 2, teacher=("resnet8", tmp_path / "teacher.pt"), seed=1) <= 1
    assert taught[0] is None and len(taught) == 3 and not taught[1].training
    weights = torch.load(tmp_path / "teacher.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in taught[2].state_dict().items())


def test_a_command_that_fails_or_says_something_else_is_not_taken_for_a_fast_one(tmp_path):
    for code, expected in (("raise SystemExit('no teacher')", ""), ("print('done')", "the first step")):
        with pytest.raises(RuntimeError, match=r"no teacher|done"):
            benchmark_sweep.seconds([sys.executable, "-c", code], tmp_path, expected)
    assert benchmark_sweep.seconds([sys.executable, "-c", "print('the first step')"], tmp_path, "first") > 0


def test_the_student_stops_its_process_at_the_first_gradient_and_at_nothing_before(monkeypatch):
    stopped = []
    monkeypatch.setattr(benchmark_sweep, "_stop", lambda gradient: stopped.append(gradient.shape))
    student = benchmark_sweep.StopsAtFirstStep(num_classes=10, in_channels=1)
    with torch.no_grad():
        student(torch.zeros(2, 1, 8, 8))
    loss = student(torch.zeros(2, 1, 8, 8)).sum()
    assert not stopped
    loss.backward()
    assert stopped == [(2, 10)]


def test_the_tables_say_what_was_measured():
    starts = {"imports": 10.0, "first_step": 12.5, "hydra": 0.5, "help": 0.75, "data_ready": 0.6}
    page = benchmark_sweep.startup_table(starts)
    assert "| 12.50 | +2.50 |" in page and "| 0.75 | +0.25 |" in page and "| 0.60 |  |" in page
    found = {"pair": "a-b", "images": 4000, "epochs": 3, "ours": 100.0, "usual": 250.0, "ratio": 2.5}
    page = benchmark_sweep.sweep_table(found | {"ours_teacher": 20.0, "usual_teacher": 30.0})
    assert (
        "a-b, 4,000 images × 3 epochs" in page and "| 250 | 30 | 1.00 × |" in page and "| 100 | 20 | 2.50 × |" in page
    )
