"""Accuracy against parameters, as a picture."""

import os

from helpers.made_results import edited, made

from distillab.reporting import plots


def points_of(axes, label):
    """What is drawn under one label: parameters in millions and top-1 in percent, as matplotlib holds them."""
    return sorted(
        (round(float(x), 6), round(float(y), 4))
        for marks in axes.collections
        if marks.get_label() == label
        for x, y in marks.get_offsets()
    )


def lines_of(axes, label=None):
    """The drawn lines of that label; without one those that no legend names."""
    return [line for line in axes.lines if line.get_label() == label or (label is None and line.get_label()[0] == "_")]


def study():
    large = ("resnet20", 272_474)
    return [
        made("none", 0.93, None, None), made("kd", 0.95), made("hint", 0.951), made("none", 0.95, None, None, student=large),
        made("kd", 0.96, 0.95, student=large), made("kd+hint", 0.94, 0.95, student=large),
    ]  # fmt: skip


def test_plot_is_two_valid_files_and_nothing_else(tmp_path):
    from PIL import Image

    paths = plots.accuracy_plot(study(), tmp_path / "accuracy.png")
    assert sorted(os.listdir(tmp_path)) == ["accuracy.png", "accuracy.svg"] == sorted(path.name for path in paths)
    with Image.open(paths[0]) as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    assert "resnet20" in paths[1].read_text() and paths[1].read_text().rstrip().endswith("</svg>")


def test_plot_shows_every_point_once():
    (axes,) = plots.figure(study()).axes
    assert points_of(axes, "kd") == [(0.078042, 95.0), (0.272474, 96.0)]
    assert points_of(axes, "hint") == [(0.078042, 95.1)]
    assert points_of(axes, "kd+hint") == [(0.272474, 94.0)]
    assert points_of(axes, "teacher") == [(21.3, 97.0)]
    assert points_of(axes, "student alone") == [(0.078042, 93.0), (0.272474, 95.0)]
    joined = sorted(tuple(round(float(y), 4) for y in line.get_ydata()) for line in lines_of(axes))
    assert joined == [(93.0, 95.0), (93.0, 95.1), (95.0, 94.0), (95.0, 96.0)]
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < 93 and high > 97


def test_plot_shows_means_intervals_and_fronts():
    tops = {"kd": (0.95, 0.96, 0.97), "hint": (0.93, 0.94, 0.95)}
    runs = [
        made(name, top1, 0.9, student=student, seeds={"seed": seed}, config={"seed": seed, "s": student[0]})
        for student in (("resnet8", 78_042), ("resnet20", 272_474)) for name in tops for seed, top1 in enumerate(tops[name])
    ]  # fmt: skip
    (axes,) = plots.figure(runs, "multiply_adds").axes
    assert points_of(axes, "kd") == [(3.12168, 96.0), (10.89896, 96.0)]
    half = 4.302653 * 1 / 3**0.5  # Student's t with two degrees of freedom, deviation of one point
    ends = [line.get_ydata() for line in lines_of(axes) if line.get_marker() == "_"]
    ends = [(low, high) for low, high in ends if low < high]  # the students alone are equal
    assert sorted(round(float(low), 4) for low, _ in ends) == [round(mean - half, 4) for mean in (94, 94, 96, 96)]
    assert not lines_of(axes, "front: distilled students"), "the larger one is no better: a front of one point"
    efficiency = {"parameters": 175_000, "multiply_adds": 26_700_000}
    weak = {"name": "resnet14", "metrics": {"top1": 0.9}, "efficiency": efficiency}
    runs += [made("dkd", 0.98, 0.9, student=("resnet20", 272_474)), runs[0].changed(strategy="hint", teacher=weak)]
    (axes,) = plots.figure(runs, "multiply_adds").axes
    fronts = {name: lines_of(axes, f"front: {name}") for name in ("distilled students", "students alone", "teachers")}
    assert {name: [list(line.get_ydata()) for line in lines] for name, lines in fronts.items()} == {
        "distilled students": [[96.0, 98.0]], "students alone": [], "teachers": [[90.0, 97.0]],
    }  # fmt: skip
    untimed = [edited(run, student={"efficiency": {"latency_ms": None}}) for run in runs]
    assert plots.figure([run.changed(teacher=None, baseline=None) for run in untimed], "latency_ms") is None


def test_plot_labels_do_not_overlap():
    crowd = [made("kd", 0.95 + 0.001 * n, 0.93, student=(f"network{n}", 78_000 + 9_000 * n)) for n in range(5)]
    drawing = plots.figure(crowd)
    (axes,) = drawing.axes
    boxes = [text.get_window_extent(drawing.canvas.get_renderer()) for text in axes.texts]
    assert len(boxes) == 6
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_plot_has_a_panel_for_each_data_set_and_protocol():
    drawing = plots.figure([*study(), made(data={"name": "cifar10"}), made(protocol="paper")])
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["cifar10", "digits, protocol paper", "digits"]
