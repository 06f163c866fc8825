"""Accuracy against parameters, as a picture."""

import os

from made_results import made

from distillab.tracking import plots


def points_of(axes, label):
    """What is drawn under one label: parameters in millions and top-1 in percent, as matplotlib holds them."""
    return sorted(
        (round(float(x), 6), round(float(y), 4))
        for marks in axes.collections
        if marks.get_label() == label
        for x, y in marks.get_offsets()
    )


def study():
    large = ("resnet20", 272_474)
    return [
        made("none", 0.93, None, None), made("kd", 0.95), made("hint", 0.951), made("none", 0.95, None, None, student=large),
        made("kd", 0.96, 0.95, student=large), made("kd+hint", 0.94, 0.95, student=large),
    ]  # fmt: skip


def test_plot_is_two_valid_files_and_nothing_else(tmp_path):
    from PIL import Image

    paths = plots.accuracy_against_parameters(study(), tmp_path / "accuracy.png")
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
    joined = sorted(tuple(round(float(y), 4) for y in line.get_ydata()) for line in axes.lines)
    assert joined == [(93.0, 95.0), (93.0, 95.1), (95.0, 94.0), (95.0, 96.0)]
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < 93 and high > 97


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
