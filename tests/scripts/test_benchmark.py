"""The benchmark runs every case and reports ratios; how fast it is no test says."""

import operator
import os
import subprocess
import sys
from functools import partial
from multiprocessing import get_start_method
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmark import child_environment
from benchmark import decoding as benchmark_decoding
from benchmark import folding as benchmark_folding
from benchmark import loops as benchmark_loops
from benchmark import main as benchmark
from benchmark import sweep as benchmark_sweep
from benchmark import usual as benchmark_usual
from benchmark.loops import BATCH, CLASSES, SHAPE, WARMUP, Timing, Workload
from benchmark.memory import peak_memory
from PIL import Image
from torchvision.datasets import ImageFolder

from distillab.data.images import sources
from distillab.teachers.cache import TeacherCache
from distillab.training.callbacks import Compiled


def noise(count):
    return np.random.default_rng(0).integers(256, size=(count, *SHAPE), dtype=np.uint8)


def workload(pixels, steps, compiled=False):
    return Workload(("resnet8", "resnet8"), pixels, np.zeros(len(pixels), int), steps, compiled)


def test_every_case_runs_and_stands_in_the_table():
    steps, draw = WARMUP + 2, np.random.default_rng(0)
    pixels = noise(BATCH * steps)
    labels = draw.integers(CLASSES, size=len(pixels))
    speed = benchmark.measure_speed(Workload(("resnet8", "resnet8"), pixels, labels, steps))
    assert list(speed) == list(benchmark.CASES) and all(value > 0 for value in speed.values())
    assert benchmark.pair_table(speed, speed).count("×") == 2 * len(benchmark.CASES)


def test_the_median_step_counts_and_the_warm_up_does_not():
    ends = [0, 9, 18, 27, 28, 29, 60, 61]  # slow at first, and once disturbed
    assert Timing(ends).images_per_second == pytest.approx(BATCH)
    assert Timing(ends, cache=8).images_per_second == pytest.approx(BATCH / 2)  # a second for each of the eight


def test_what_the_cache_takes_outside_the_steps_is_counted(tmp_path, monkeypatch):
    """A clock on which opening a view takes 10 seconds, writing one 100, and nothing else anything."""
    now, views, write = [0.0], TeacherCache.view, TeacherCache.publish

    def view(cache, number, kind=0):
        now[0] += 0 if cache._views else 10
        return views(cache, number, kind)

    def publish(cache):
        now[0] += 100 * any(view.fresh.any() for view in cache._views.values())
        write(cache)

    monkeypatch.setattr(TeacherCache, "view", view)
    monkeypatch.setattr(TeacherCache, "publish", publish)
    monkeypatch.setattr(benchmark_loops, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    pixels = noise(2 * BATCH)
    works = benchmark_loops.cases(workload(pixels, 2), tmp_path)
    taken = {name: works[name]() for name in ("live_teacher", "cold_cache", "warm_cache")}
    assert {name: one.cache for name, one in taken.items()} == {"live_teacher": 0, "cold_cache": 110, "warm_cache": 10}
    assert all(one.ends[0] == one.ends[1] for one in taken.values())


def test_the_student_is_compiled_as_a_fit_compiles_it(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    monkeypatch.setattr(benchmark_loops, "Compiled", lambda choice: compiled.append(choice) or Compiled(choice))
    pixels = noise(BATCH)
    for fit in (True, False):
        works = benchmark_loops.cases(workload(pixels, 1, compiled=fit), tmp_path)
        works["live_teacher"](), works["bare_student"]()
        assert len(compiled) == 3 and compiled[0] == "student"


def test_each_peak_is_that_of_one_process_and_its_workers():
    large, small = (partial(operator.mul, b"x", size) for size in (300_000_000, 1_000_000))
    asleep = "import time; x = b'x' * 200_000_000; time.sleep(0.4)"
    command = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    worker = partial(subprocess.run, [sys.executable, "-c", command, asleep], check=True)
    first, second, third = (peak_memory(work) for work in (large, small, worker))
    assert first - second == pytest.approx(299, abs=5) and third - second == pytest.approx(200, abs=25)
    same = f"import multiprocessing; assert multiprocessing.get_start_method() == {get_start_method()!r}"
    peak_memory(partial(exec, same))  # a loader's workers start there as they do here


def test_a_child_process_finds_the_benchmark_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "src")  # of this folder, not of the child's
    find = "from importlib.util import find_spec; print(find_spec('benchmark.usual').origin)"
    benchmark_sweep.seconds([sys.executable, "-c", find], tmp_path, expected=benchmark_usual.__file__)
    assert child_environment()["PYTHONPATH"].split(os.pathsep)[1:] == [os.path.abspath("src")]
    # In a process of its own: here the fork server may run already, with the environment of before.
    scripts = Path(benchmark_usual.__file__).parents[1]
    work = "import os; assert 'scripts' in os.environ['PYTHONPATH']"
    code = f"import sys; sys.path.insert(0, {str(scripts)!r}); from functools import partial\n"
    code += f"from benchmark.memory import peak_memory\npeak_memory(partial(exec, {work!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_repeats_take_turns_with_a_new_cache_each_and_their_median_counts(monkeypatch):
    turns, roots, speeds = [], [], iter([8, 1, 2, 3, 4, 2, 9, 5, 8, 9, 4, 5, 6, 7, 5])

    def cases(load, root):
        def work(name):
            turns.append(name)
            return SimpleNamespace(images_per_second=next(speeds))

        roots.append(root)
        return {name: partial(work, name) for name in benchmark.CASES}

    monkeypatch.setattr(benchmark, "cases", cases)
    found = benchmark.measure_speed(workload(noise(2), 5), repeats=3)
    assert turns == list(benchmark.CASES) * 3 and len(set(roots)) == 3
    assert list(found.values()) == [4, 5, 5, 7, 5]


@pytest.mark.parametrize(
    ("words", "parts", "numbers"),
    [
        ([], benchmark.PARTS, (20, 3, 4000, 3)),
        (["--quick"], ("pairs",), (4, 1, 128, 1)),
        (["--quick", "--only", "sweep", "--epochs", "2"], ["sweep"], (4, 1, 128, 2)),
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
    student.eval()(torch.zeros(2, 1, 8, 8)).sum().backward()  # as the terms are tried before the fit
    loss = student.train()(torch.zeros(2, 1, 8, 8)).sum()
    assert not stopped
    loss.backward()
    assert stopped == [(2, 10)]


def test_the_data_of_a_second_start_is_found_decoded(tmp_path, monkeypatch):
    benchmark_sweep.write_images(tmp_path / "images", noise(3 * CLASSES))
    reads, read = [], sources.read_image
    monkeypatch.setattr(sources, "read_image", lambda path, *rest: reads.append(path) or read(path, *rest))
    found = benchmark_sweep.data_ready(tmp_path / "images", tmp_path)
    assert found["data_images"] == 3 * CLASSES and found["data_ready"] > 0
    assert len(reads) == 3 * CLASSES  # the first start's


def test_every_way_to_run_a_teacher_is_timed(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda net: net)
    found = benchmark_folding.folding(1, ["resnet8"])
    assert tuple(found["resnet8"]) == benchmark_folding.WAYS and all(
        seconds > 0 for seconds in found["resnet8"].values()
    )
    told = benchmark_folding.folding_table(
        {"a": dict(zip(benchmark_folding.WAYS, (3.0, 2.0, 1.0, 4.0, 0.5), strict=True))}
    )
    assert "| a | 3.000 s (0.67 ×) | 2.000 s (1.00 ×) | 1.000 s (2.00 ×) |" in told


def test_each_number_of_views_per_decoding_reads_every_image(monkeypatch):
    monkeypatch.setattr(benchmark_decoding, "photograph", lambda path, *_: Image.new("RGB", (9, 6)).save(path))
    found = benchmark_decoding.decoding(repeats=1, images=20)
    assert tuple(found) == benchmark_decoding.VIEWS and all(speed > 0 for speed in found.values())
    assert "| 4 | 50 | 2.00 × |" in benchmark_decoding.decoding_table({1: 25.0, 4: 50.0})


def test_the_tables_say_what_was_measured_against_what():
    starts = {"imports": 10.0, "first_step": 12.5, "hydra": 0.5, "help": 0.75, "data_ready": 0.6, "data_images": 60_000}
    page = benchmark_sweep.startup_table(starts)
    assert "| 12.50 | +2.50 | at most +3.00 |" in page and "| 0.75 | +0.25 | at most +0.50 |" in page
    assert "| 60,000 images ready, second start | 0.60 |  | at most 1.00 |" in page
    found = {"pair": "a-b", "images": 4000, "epochs": 3, "ours": 100.0, "usual": 250.0, "ratio": 2.5}
    page = benchmark_sweep.sweep_table(found | {"ours_teacher": 20.0, "usual_teacher": 30.0})
    assert "a-b, 4,000 images × 3 epochs" in page and "| 250 | 30 | 1.00 × |  |" in page
    assert "| 100 | 20 | 2.50 × | at least 2.50 × |" in page
