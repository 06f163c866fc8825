"""The pictures: what is drawn, where, and that nothing covers another."""

import os
from dataclasses import replace
from itertools import pairwise

import pytest
from helpers.drawn import drawn, places
from helpers.made_limits import study as limits_study
from helpers.made_results import edited, made

from distillab.core.result_parts import Limits
from distillab.evaluation.families import Finding
from distillab.reporting import charts, gains_chart, looks, plots, spacing
from distillab.reporting.comparison import compare
from distillab.reporting.metric_table import metric
from distillab.reporting.points import Curve, Point, Span, methods, points, teachers

TOP1 = metric("top1")


def study():
    large = ("resnet20", 272_474)
    return [
        made("none", 0.93, None, None), made("kd", 0.95), made("hint", 0.951), made("none", 0.95, None, None, student=large),
        made("kd", 0.96, 0.95, student=large), made("kd+hint", 0.94, 0.95, student=large),
    ]  # fmt: skip


def test_plot_is_two_valid_files_and_nothing_else(tmp_path):
    from PIL import Image

    paths = plots.accuracy_plot(compare(study()), tmp_path / "accuracy.png")
    assert sorted(os.listdir(tmp_path)) == ["accuracy.png", "accuracy.svg"] == sorted(path.name for path in paths)
    with Image.open(tmp_path / "accuracy.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    drawing = (tmp_path / "accuracy.svg").read_text()
    assert drawing.startswith('<svg role="img" aria-label="top-1 against parameters') and drawing.endswith("</svg>")
    for name in ("resnet20", "78 k", "272 k", "21.3 M", "student alone"):
        assert f">{name}</text>" in drawing, name
    plots.accuracy_plot(compare(study()), tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.svg").read_text() == drawing, "an unchanged plot is an unchanged file"


def test_plot_shows_every_point_once():
    drawing = plots.figure(compare(study()))
    assert places(drawing, "kd") == [(78_042, 95), (272_474, 96)]
    assert places(drawing, "hint") == [(78_042, 95.1)]
    assert places(drawing, "kd+hint") == [(272_474, 94)]
    assert places(drawing, "teacher") == [(21_300_000, 97)]
    assert places(drawing, "student alone") == [(78_042, 93), (272_474, 95)]
    assert places(drawing, mark="line")[:2] == [(78_042, 95.1), (272_474, 96)], "the front"


def test_plot_shows_means_and_intervals():
    tops = {"kd": (0.95, 0.96, 0.97), "hint": (0.93, 0.94, 0.95)}
    runs = [
        made(name, top1, 0.9, student=student, seeds={"seed": seed}, config={"seed": seed, "s": student[0]})
        for student in (("resnet8", 78_042), ("resnet20", 272_474)) for name in tops for seed, top1 in enumerate(tops[name])
    ]  # fmt: skip
    drawing = plots.figure(compare(runs), "multiply_adds")
    assert places(drawing, "kd") == [(40 * 78_042, 96), (40 * 272_474, 96)]
    half = 4.302653 * 1 / 3**0.5  # Student's t with two degrees of freedom, deviation of one point
    ends = [one["low"] for one in drawn(drawing, "rule") if one.get("series") == "kd"]
    assert ends == pytest.approx([96 - half] * 2, abs=1e-4)
    untimed = [edited(run, student={"efficiency": {"latency_ms": None}}) for run in runs]
    bare = compare([run.changed(teacher=None, baseline=None) for run in untimed])
    assert plots.figure(bare, "latency_ms") is None


def test_the_student_trained_longer_stands_in_every_chart_and_on_the_front():
    runs = [edited(run, longer={"epochs": 30, "metrics": {"top1": 0.97}}) for run in study() if run.baseline]
    drawing = plots.figure(compare(runs))
    assert places(drawing, "student alone, longer") == [(78_042, 97), (272_474, 97)]
    # The small one is as good as the large one: it is the whole front, which leads on to the edge.
    (first, start), (last, end) = places(drawing, mark="line")
    assert (first, start, end) == (78_042, 97, 97) and last > 21_300_000
    runs = [edited(run, config={"recipe": {"epochs": 8}}, baseline={"training": {"epochs": 8}}) for run in runs[:1]]
    rows = compare(runs)
    budget = charts.budget(points(rows, "epochs"), ["kd"], TOP1, teachers(rows))
    assert drawn(budget, "rule")[0] == {"name": "teacher, resnet34", "y": 97.0}
    assert places(budget, mark="line") == [(8, 93), (8, 95), (30, 97)]
    assert {one["series"] for one in drawn(budget, "line")} == {"kd", "student alone"}


def test_front_is_of_students_and_follows_the_direction():
    students = [Point("kd", "a", 1, 0.9), Point("student alone", "a", 1, 0.8), Point("kd", "b", 2, 0.9)]
    students += [Point("student alone, longer", "c", 3, 0.95), Point("teacher", "t", 2, 0.99)]
    assert charts.front(students) == [(1, 0.9), (3, 0.95)]
    assert charts.front(students, sign=-1) == [(1, 0.8)]
    timed = [Point("kd", "a", 1, 0.9, machine="cpu"), Point("kd", "b", 2, 0.95, machine="gpu")]
    assert charts.front(timed) == [], "timings of two machines do not compare"


@pytest.mark.parametrize("width", [spacing.NARROW, spacing.WIDTH])
def test_no_marker_or_interval_covers_another(width):
    """Seven methods on three students that are close in size: all differ by less than a marker."""
    crowd = [
        Point(f"m{method}", f"net{size}", 78_000 * 1.8**size, 0.6 + method / 2000, 0.59, 0.62)
        for size in range(3) for method in range(7 if width == spacing.WIDTH else 3)
    ]  # fmt: skip
    scale = spacing.scale_of(crowd, width)
    shifts = spacing.spread(crowd, scale, (0.5, 0.7))
    at = sorted(scale.pixels(point.x) + shift for point, shift in zip(crowd, shifts, strict=True))
    assert min(b - a for a, b in pairwise(at)) > 2 * spacing.MARK
    assert at[0] > 0 and at[-1] < width
    apart = [Point("kd", "a", 1, 0.1), Point("hint", "a", 1, 0.9), Point("kd", "b", 2, 0.5)]
    assert spacing.spread(apart, spacing.scale_of(apart, width), (0, 1)) == [0, 0, 0], "what is apart stays where it is"


def test_names_that_would_touch_stand_in_rows():
    assert spacing.name_rows([("resnet8", 20), ("resnet14", 60), ("resnet20", 70), ("resnet56", 200)]) == [0, 1, 2, 0]


def test_a_wide_interval_does_not_flatten_the_chart():
    drawing = charts.accuracy(
        [Point("kd", "a", 1, 0.9, 0.1, 1.2), Point("hint", "a", 1, 0.88)], "parameters", ["hint", "kd"], TOP1
    )
    (bar,) = (one for one in drawn(drawing, "rule") if one.get("series") == "kd")
    assert 80 < bar["low"] < 88 and bar["high"] <= 103 and bar["interval"] == "10.00 to 120.00"


def test_plot_has_a_panel_for_each_data_set_and_protocol():
    spec = plots.figure(compare([*study(), made(data={"name": "cifar10"}), made(protocol="paper")])).to_dict()
    assert [panel["title"]["text"] for panel in spec["concat"]] == [
        "cifar10, protocol standard", "digits, protocol paper", "digits, protocol standard",
    ]  # fmt: skip
    known = {panel["title"]["text"]: panel["layer"][-1]["encoding"]["shape"]["scale"] for panel in spec["concat"]}
    looks = [dict(zip(scale["domain"], scale["range"], strict=True)) for scale in known.values()]
    assert {look["kd"] for look in looks} == {looks[0]["kd"]}, "one look in all of them"


def test_charts_without_data_are_none():
    assert charts.accuracy([], "latency_ms", ["kd"], TOP1) is None
    assert charts.curves([], "val/top1", ["kd"]) is None
    assert charts.budget([Point("kd", "a", 8, 0.9)], ["kd"], TOP1) is None


def test_a_long_curve_is_thinned_to_its_last_epoch():
    line = Curve("kd", "kd, seed 0", range(1, 1001), [epoch / 1000 for epoch in range(1, 1001)])
    (shown,) = drawn(charts.curves([line], "val/top1", ["kd"]), "line")
    assert len(shown["x"]) <= 61 and (shown["x"][-1], shown["y"][-1]) == (1000, 100)


def test_seconds_are_stacked_in_the_order_of_their_parts():
    bars = drawn(charts.seconds([Span("kd", "teacher", 4), Span("kd", "data", 1), Span("hint", "teacher", 2)]), "bar")
    assert [(bar["label"], bar["part"], bar["seconds"], bar["place"]) for bar in bars] == [
        ("kd", "teacher", 4, 0), ("kd", "data", 1, 1), ("hint", "teacher", 2, 0),
    ]  # fmt: skip


def test_limits_show_every_line_once(tmp_path):
    from PIL import Image

    found = limits_study(("cat", "dog"))
    path = plots.limits_picture(found, tmp_path / "limits.any")
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["limits.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    for panel, lines in zip(plots.limits_figure(found).to_dict()["hconcat"], (found.classes, found.bins), strict=True):
        shown = drawn(panel, "bar")
        lines = sorted(lines, key=lambda line: line.teacher) if lines is found.classes else lines
        assert [one["name"] for one in shown] == [line.name for line in lines]
        for one, line in zip(shown, lines, strict=True):
            assert [one[role] for role in ("teacher", "alone", "distilled")] == pytest.approx(
                [100 * line.teacher, 100 * line.alone, 100 * line.distilled], abs=0.01
            )
            assert (one["low"], one["high"]) == pytest.approx(
                (100 * (line.alone + line.low), 100 * (line.alone + line.high)), abs=0.01
            )
    assert {one["name"] for one in drawn(plots.limits_figure(found), "bar") if one["hurt"]} == {"cat", "dog"}


def test_of_many_classes_the_weakest_and_the_most_changed_are_shown():
    line = {"samples": 9, "alone": 0.5, "distilled": 0.5, "low": -0.1, "high": 0.1}
    classes = [
        {**line, "name": f"class {n}", "teacher": n / 100, "change": (0, 0.3)[n in range(60, 70)]} for n in range(99)
    ]
    found = Limits.model_validate({"classes": classes, "bins": [{**classes[0], "name": "margin 0.00–1.00"}]})
    spec = plots.limits_figure(found).to_dict()
    shown = [one["name"] for one in drawn(spec, "bar") if one["name"].startswith("class")]
    assert shown == [f"class {n}" for n in (*range(10), *range(60, 70))]
    assert spec["hconcat"][0]["title"] == {
        "text": "20 of 99 classes", "subtitle": "the teacher's 10 weakest; of the rest, the 10 most changed",
    }  # fmt: skip


def gaining(*found, **changes):
    """Rows of these findings, the first one first in rank."""
    rows = [
        row for row in compare([made(f"m{number}", 0.95) for number in range(len(found))]) if row.kind == "distilled"
    ]
    return [
        replace(row, gain=each, rank=rank, **changes)
        for rank, (row, each) in enumerate(zip(rows, found, strict=True), 1)
    ]


def test_gains_stand_by_rank_with_their_intervals_and_a_rule_at_zero():
    rows = gaining(Finding(0.02, 3, 0.01, 0.03), Finding(0.03, 3, -0.01, 0.07), Finding(-0.01, 1))
    chart = gains_chart.gains([replace(rows[2], rank=None), rows[1], rows[0]], ["m0", "m1", "m2"])
    marks = [one for one in drawn(chart, "point") if "gain" in one]
    assert [(one["line"], one["name"], one["gain"]) for one in marks] == [(0, "m0", 2), (1, "m1", 3), (2, "m2", -1)]
    zero, *intervals = drawn(chart, "rule")
    assert zero == {"gain": 0}
    assert [(one["line"], one["low"], one["high"]) for one in intervals] == [
        (0, pytest.approx(1), pytest.approx(3)), (1, pytest.approx(-1), pytest.approx(7)),
    ], "a single run is its mark alone"  # fmt: skip
    assert marks[0]["interval"] == "1.00 to 3.00" and marks[2]["interval"] == "–"
    encoding = chart.to_dict()["layer"][-1]["encoding"]
    assert encoding["fill"]["scale"] == {"domain": ["m0", "m1", "m2"], "range": list(looks.COLOURS[:3])}
    assert gains_chart.gains([replace(row, gain=None) for row in rows], ["m0"]) is None


def test_a_very_wide_gain_runs_out_of_the_chart_with_an_arrow():
    usual = [Finding(0.01 * number, 3, 0.01 * number - 0.01, 0.01 * number + 0.01) for number in range(3)]
    chart = gains_chart.gains(gaining(*usual, Finding(0.01, 2, -0.9, 0.025)), ["m0", "m1", "m2", "m3"])
    low, high = chart.to_dict()["layer"][-1]["encoding"]["x"]["scale"]["domain"]
    assert -5 < low < -1 and 3 <= high < 6
    *_, cut = drawn(chart, "rule")
    assert cut["low"] == pytest.approx(low) and cut["interval"] == "−90.00 to 2.50"
    assert [(one["line"], one["side"]) for one in drawn(chart, "point") if "side" in one] == [(3, "triangle-left")]


def test_gains_of_many_methods_are_a_tall_picture_and_no_wider(tmp_path):
    from PIL import Image

    rows = gaining(*[Finding(0.001 * number, 2, 0.0, 0.05) for number in range(45)])
    paths = plots.gains_plot(rows, tmp_path / "gains.png")
    assert sorted(path.name for path in paths) == ["gains.png", "gains.svg"]
    with Image.open(tmp_path / "gains.png") as image:
        assert image.height > 45 * 2 * 30 and image.width < 2 * (spacing.WIDTH + 80)
    assert plots.gains_plot([replace(row, gain=None) for row in rows], tmp_path / "none.png") == []


def test_a_long_legend_is_no_wider_than_its_plot_and_cuts_no_name(tmp_path):
    from PIL import Image

    names = [f"kd strategy.kd.temperature={number} recipe.weight_decay=0.000{number}" for number in range(1, 9)]
    crowd = [Point(name, "net", epochs, 0.9) for name in names for epochs in (8, 16)]
    chart = charts.budget(crowd, names, TOP1, width=spacing.WIDTH).properties(width=spacing.WIDTH)
    plots.save(chart, tmp_path / "a.png", (".png", ".svg"))
    with Image.open(tmp_path / "a.png") as image:
        assert image.width < 2 * (spacing.WIDTH + 100)
    drawing = (tmp_path / "a.svg").read_text()
    for number in range(1, 9):
        assert f"strategy.kd.temperature={number}<" in drawing and f"recipe.weight_decay=0.000{number}<" in drawing


def test_two_scores_of_a_teacher_have_two_lines_and_one_name_with_both():
    taught = [Point("teacher", "resnet20", 1, top1) for top1 in (0.95, 0.97)] + [Point("teacher", "resnet8", 1, 0.96)]
    crowd = [Point("kd", "a", epochs, top1) for epochs, top1 in ((8, 0.4), (16, 0.9))]
    chart = charts.budget(crowd, ["kd"], TOP1, taught[:2])
    assert sorted(line["y"] for line in drawn(chart, "rule") if "name" in line) == [95, 97]
    assert drawn(chart, "text") == [{"name": "teacher, resnet20 (95.00 and 97.00)", "y": 97}]
    (close,) = drawn(charts.budget(crowd, ["kd"], TOP1, taught[1:]), "text")
    assert close["name"] == "teacher, resnet20; teacher, resnet8", "texts that would touch are one"
    apart = [taught[1], replace(taught[2], y=0.6)]
    assert len(drawn(charts.budget(crowd, ["kd"], TOP1, apart), "text")) == 2


def test_students_alone_of_other_settings_are_drawn_apart():
    """A failed learning rate is no step on the way of the student alone over the epochs."""

    def alone(top1, epochs, lr=0.1):
        config = {"seed": 0, "recipe": {"epochs": epochs, "lr": lr}}
        return made("none", top1, None, None, config=config, config_hash=f"{top1}", overrides=[f"recipe.lr={lr}"])

    rows = compare([alone(0.8, 1), alone(0.1, 1, 9.0), alone(0.9, 2)])
    budget = charts.budget(points(rows, "epochs"), methods(rows), TOP1)
    lines = {one["series"]: [] for one in drawn(budget, "line")}
    for one in drawn(budget, "line"):
        lines[one["series"]].append((one["x"], one["y"]))
    assert len(lines) == 3 and [10.0] in [[y for _, y in each] for each in lines.values()]
