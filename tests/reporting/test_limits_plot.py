"""The picture of the limits: every class and bin once, at its place."""

import pytest
from helpers.made_limits import study

from distillab.core.result_parts import Limits
from distillab.reporting import limits_plot


def test_picture_shows_every_line_once(tmp_path):
    from PIL import Image

    found = study(("cat", "dog"))
    path = limits_plot.limits_picture(found, tmp_path / "limits.any")
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["limits.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    for axes, lines in zip(limits_plot.figure(found).axes, (found.classes, found.bins), strict=True):
        lines = sorted(lines, key=lambda line: line.teacher) if lines is found.classes else lines
        assert [text.get_text() for text in axes.get_yticklabels()] == [line.name for line in lines]
        drawn = {marks.get_label(): marks for marks in axes.collections}
        for role, label in {"teacher": "teacher", "alone": "student alone", "distilled": "student distilled"}.items():
            shares = [(round(100 * getattr(line, role), 6), row) for row, line in enumerate(lines)]
            assert [(round(x, 6), y) for x, y in drawn[label].get_offsets().tolist()] == shares
        for line, bar in zip(lines, drawn["95 % interval of the change"].get_segments(), strict=True):
            assert bar[:, 0] == pytest.approx([100 * (line.alone + end) for end in (line.low, line.high)])
    bold = [t.get_text() for t in limits_plot.figure(found).axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
    assert set(bold) == {"cat", "dog"}


def test_picture_of_many_classes_shows_the_weakest_and_the_most_changed():
    line = {"samples": 9, "alone": 0.5, "distilled": 0.5, "low": -0.1, "high": 0.1}
    classes = [
        {**line, "name": f"$class$ {n}", "teacher": n / 100, "change": (0, 0.3)[n in range(60, 70)]} for n in range(99)
    ]
    bins = [{**classes[0], "name": "margin 0.00–1.00"}]
    found = Limits.model_validate({"classes": classes, "bins": bins, "hurt": ["$class$ 61"]})
    left, _ = limits_plot.figure(found).axes
    shown = [text.get_text() for text in left.get_yticklabels()]
    assert shown == [f"$class$ {n}" for n in (*range(10), *range(60, 70))]
    assert left.get_title(loc="left").strip() == "20 of 99 classes"
    assert [text.get_text() for text in left.texts] == ["the teacher's 10 weakest; of the rest, the 10 most changed"]
