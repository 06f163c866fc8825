"""The report: one page from disk, its Markdown, CSV and pictures, and what is said of files that cannot be shown."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers.drawn import drawn, places
from helpers.made_results import made, merged, put
from helpers.made_study import COST, LIMITS, full, study
from scipy import stats

from distillab.core.errors import UserError
from distillab.reporting import report
from distillab.reporting.ranking import non_dominated
from distillab.reporting.report import write_report

NASTY = "</script><b>x</b>"


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of each script and heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self._script = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id", "code") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.words.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def write(runs, out):
    """The page as a browser parses it, and what it was made from."""
    with patch.object(report, "_html", wraps=report._html) as rendered:
        write_report(runs, out)
    return Parsed(out.read_text(encoding="utf-8")), rendered.call_args[0][0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    runs = tmp_path_factory.mktemp("study") / "runs"
    put(runs, *study())
    return runs / "report.html", *write(runs, runs / "report.html")


def sections(page):
    return {section["id"]: section for section in page["sections"]}


def test_page_is_one_file_that_needs_no_network(written):
    page, parsed, _ = written
    loaded = [attrs for _, attrs in parsed.tags if attrs.get("src") or attrs.get("href", "data:")[:5] != "data:"]
    assert loaded == []
    assert parsed.scripts["code"].count("window.vegaEmbed=") == 1 and page.stat().st_size < 1.5e6
    policy = next(
        attrs["content"] for tag, attrs in parsed.tags if tag == "meta" and "content" in attrs and "http-equiv" in attrs
    )
    assert policy.startswith("default-src 'none'") and "http" not in policy
    beside = {path.name for path in page.parent.iterdir() if path.is_file()}
    names = {f"report.{ending}" for ending in ("html", "md", "csv")}
    costs = ("parameters", "multiply_adds", "latency_ms")
    assert beside == names | {f"accuracy_vs_{cost}.{ending}" for cost in costs for ending in ("png", "svg")}


def test_leaderboard_ranks_each_data_set_and_protocol_apart(written):
    _, parsed, page = written
    boards = {board["title"]: board for board in page["leaderboard"]}
    assert {title: len(board["rows"]) for title, board in boards.items()} == {
        "cifar10, protocol standard": 1, "digits, protocol paper": 1, "digits, protocol standard": 5,
    }  # fmt: skip
    board = boards["digits, protocol standard"]
    shown = [dict(zip(board["headings"], row, strict=True)) for row in board["rows"]]
    # resnet8 with kd and resnet20 with hint have equal means.
    assert [row["rank"][1] for row in shown] == [1, 2, 2, 4, 5]
    assert [row["method"] for row in shown] == ["kd", "hint", "kd", "dkd", "hint"]
    assert shown[0]["top-1 %"][0] == "96.10 ± 0.14" and shown[0]["top-1 %"][1] == pytest.approx(0.961)
    assert shown[0]["gain"][1] == pytest.approx(0.0305) and shown[0]["seeds"] == "0 1"
    assert {"96.10 ± 0.14", *board["notes"]} <= set(map(str.strip, parsed.words)), "the page shows figures and words"
    assert len(board["filters"]) == 5 and board["filters"][0] == {
        "data": "digits", "protocol": "standard", "student": "resnet20", "method": "kd",
    }  # fmt: skip


def test_accuracy_chart_has_a_point_for_every_method_student_and_teacher(written):
    _, parsed, page = written
    views = {tuple(view["key"]): view["charts"][0] for view in sections(page)["accuracy"]["views"]}
    assert {key[1] for key in views} == {"parameters", "multiply-adds", "latency"}
    chart = views["digits, protocol standard", "parameters"]
    assert places(chart, "kd") == [(78_042, 95.1), (272_474, 96.1)]
    assert places(chart, "teacher")[0][0] == 21_300_000 and places(chart, "student alone")[-1][0] == 272_474
    assert places(chart, mark="line")[:2] == [(78_042, 95.1), (272_474, 96.1)], "the front"
    slower = views["digits, protocol standard", "multiply-adds"]
    assert [x for x, _ in places(slower, "kd")] == [40 * 78_042, 40 * 272_474]
    # The page holds the same charts, one for each place that waits for one.
    held = json.loads(parsed.scripts["charts"])
    waiting = [int(attrs["data-chart"]) for _, attrs in parsed.tags if "data-chart" in attrs]
    assert waiting == list(range(len(held["drawn"]))) and len(held["specs"]) < len(held["drawn"])
    first, data = held["drawn"][0]
    shown = next(iter(views.values())).to_dict()
    assert held["specs"][first] | data == {**shown, "description": data["description"]}


def test_curves_limits_judgement_and_provenance_show_the_runs_numbers(written):
    *_, page = written
    found = sections(page)
    curves = {tuple(view["key"]): view["charts"][0] for view in found["learning"]["views"]}
    lines = drawn(curves["resnet8, digits, protocol standard", "val/top1"], "line")
    assert {line["series"] for line in lines} == {"kd", "hint", "student alone"}
    # Two methods on two seeds share two baselines.
    assert sum(line["series"] == "student alone" for line in lines) == 2
    assert list(lines[0]["x"]) == list(range(1, 9)) and max(lines[0]["y"]) > 90
    limits = found["limits"]["views"][0]
    assert limits["text"] == LIMITS["sentences"]
    assert [row[0] for row in limits["tables"][0]["rows"]] == ["cat", "dog", "truck"]
    assert limits["tables"][0]["rows"][0][5:] == [
        ["−20.0", pytest.approx(-0.2)],
        ["−25.0 to −15.0", pytest.approx(-0.25)],
        "hurt",
    ]
    models = {row[0]: row for row in found["judgement"]["views"][-1]["tables"][0]["rows"]}
    assert models["kd, resnet8"][7][0] == "3.10" and models["kd, resnet8"][8][0] == "93.00"
    assert models["teacher, resnet34"][8] == ["–", None]
    spent = found["cost"]["views"][-1]
    assert {bar["part"]: bar["seconds"] for bar in drawn(spent["charts"][0], "bar")} == COST["time"]
    assert spent["tables"][0]["rows"][0][1][0] == "+2.00", "no interval without a spread"
    assert "16.0 s" in spent["tables"][0]["rows"][0][-1]
    pairs = found["pairs"]["views"][0]["tables"][0]["rows"]
    assert {(row[0], row[1], row[3][0]) for row in pairs} == {("kd", "hint", "+1.00")}
    runs, differing = found["provenance"]["views"][0]["tables"]
    assert len(runs["rows"]) == 11 and {"seed", "student.name"} <= set(differing["headings"])


def test_markdown_and_csv_carry_the_same_figures(written):
    page, *_ = written
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "96.10 ± 0.14" in text and "Distillation hurts at cat." in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({row.replace("\\|", "").count("|") for row in block.splitlines()}) == 1
    with page.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    best = next(row for row in rows if row["protocol"] == "standard" and row["data"] == "digits")
    assert float(best["top1"]) == pytest.approx(0.961) and best["rank"] == "1" and len(best["runs"].split()) == 2
    known = stats.t.interval(0.95, 1, 0.961, stats.sem([0.96, 0.962]))
    assert (float(best["top1_low"]), float(best["top1_high"])) == pytest.approx(known)
    assert (float(best["balanced_accuracy"]), float(best["macro_f1"])) == pytest.approx((0.9, 0.89))
    assert float(best["gap_closed"]) == pytest.approx((0.961 - 0.9305) / (0.97 - 0.9305))
    assert float(best["equal_compute_gain"]) == pytest.approx(0.015) and best["equal_compute_gain_p"] == ""
    small = {row["method"]: row["front"].split() for row in rows if row["student"] == "resnet8" and row["data"] == "digits"
             and row["protocol"] == "standard"}  # fmt: skip
    assert "parameters" in small["kd"] and small["hint"] == small["dkd"] == []
    assert "python train.py strategy=kd student=resnet8 seed=1" in text and "| torch |" in text
    assert "| 3 rows by class" not in text and "3 rows by class or bin and 2 rows by class or bin" in text


def test_names_cannot_break_out_of_the_page(tmp_path):
    result = full(NASTY, 0.95, 0, student=(NASTY, 10), data={"name": NASTY, "classes": 2, "test": 9})
    put(tmp_path / "runs", result.changed(name="x"))
    parsed, page = write(tmp_path / "runs", tmp_path / "report.html")
    assert not any(tag == "b" for tag, _ in parsed.tags)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 3
    assert page["leaderboard"][0]["filters"][0]["method"] == NASTY
    assert NASTY in map(str.strip, parsed.words) and NASTY not in parsed.scripts["charts"]
    held = json.loads(parsed.scripts["charts"])
    assert NASTY in {one.get("series") for one in drawn(held["specs"][0], "point")}


def test_old_results_leave_out_the_sections_they_have_nothing_for(tmp_path):
    put(tmp_path, made("none", 0.93, None, None), made("kd", 0.95))
    _, page = write(tmp_path, tmp_path / "report.html")
    assert list(sections(page)) == ["accuracy", "provenance"]
    assert "resnet8 on digits, protocol standard, taught by resnet34: kd with 95.00 % (1 seed)" in page["headline"][0]


@pytest.mark.parametrize(
    "broken",
    [
        {"limits": {"classes": [{"name": "cat"}]}},
        {"seeds": {"seed": [1]}},
        {"student": {"training": {"curves": "long"}}},
        {"student": {"metrics": {"calibration_error": float("nan")}}},
    ],
)
def test_results_edited_by_hand_are_named_and_the_rest_shown(tmp_path, broken):
    put(tmp_path, full("kd", 0.95, 0), full("hint", 0.94, 0))
    spoilt = merged(full("dkd", 0.9, 0).as_json(), {"config_hash": "badbadbad0"} | broken)
    (tmp_path / "digits" / "badbadbad0").mkdir()
    (tmp_path / "digits" / "badbadbad0" / "result.json").write_text(json.dumps(spoilt))
    (tmp_path / "digits" / "half").mkdir()
    (tmp_path / "digits" / "half" / "result.json").write_text('{"schema": 2, "na')
    parsed, page = write(tmp_path, tmp_path / "report.html")
    assert {row["method"] for row in page["leaderboard"][0]["filters"]} == {"kd", "hint"}
    assert sorted(line.split("/result.json")[0][-10:] for line in page["left_out"]) == ["badbadbad0", "igits/half"]
    assert all(any(line in words for words in parsed.words) for line in page["left_out"])


def test_nothing_to_show_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is not a folder.*paths\.runs"):
        write_report(tmp_path / "none", tmp_path / "report.html")
    with pytest.raises(UserError, match=r"no result that can be shown.*paths\.runs"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UserError, match=r"must end in \.html"):
        write_report(tmp_path, tmp_path / "report.md")


def test_script_says_in_one_line_what_is_wrong(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "report.py"
    ended = subprocess.run([sys.executable, str(script), str(tmp_path / "none")], capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_front_keeps_what_nothing_else_beats():
    # A cheaper equal wins, an equally cheap better one wins, equals stand together.
    points = [(1, 0.5), (1, 0.6), (2, 0.6), (2, 0.9), (3, 0.8), (4, 0.9), (5, 0.95), (5, 0.95)]
    assert non_dominated(points) == [False, True, False, True, False, False, True, True]
    assert non_dominated([]) == []
