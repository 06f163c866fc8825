"""The report: one page from disk, its Markdown, CSV and pictures, and what is said of files that cannot be shown."""

import csv
import gzip
import json
import re
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.drawn import drawn, places
from helpers.made_results import made, merged, put
from helpers.made_study import COST, LIMITS, full, study
from scipy import stats

from distillab.core.errors import UserError
from distillab.reporting import plots, report
from distillab.reporting.report import write_report
from distillab.reporting.sections import sections

NASTY = "</script><b>x</b>"
MAIN = "digits, protocol standard, 8 epochs"


class Parsed(HTMLParser):
    """Tags with their attributes, the text outside scripts, and that of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self._script = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = tag == "script"
        self.scripts += [""] * self._script

    def handle_endtag(self, tag):
        self._script = False

    def handle_data(self, data):
        if self._script:
            self.scripts[-1] += data
        else:
            self.words.append(data)


def unpacked(script):
    """What a script of the page holds."""
    return gzip.decompress(b64decode(script)).decode()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    runs = tmp_path_factory.mktemp("study") / "runs"
    put(runs, *study())

    def empty(rows, path, cost=""):  # drawing takes most of the time, and has tests of its own
        return [path.with_suffix(ending).touch() for ending in (".png", ".svg")]

    def kept(rows, answers):
        made = sections(rows, answers)
        parts.update({section.title: section.views for section in made})
        return made

    parts = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "accuracy_plot", empty)
        patch.setattr(plots, "gains_plot", empty)
        patch.setattr(report, "sections", kept)
        return *write_report(runs, runs / "report.html")[:2], parts


@pytest.fixture(scope="module")
def parts(written):
    return written[2]


def test_page_is_one_file_that_needs_no_network(written):
    page, *_ = written
    parsed = Parsed(page.read_text(encoding="utf-8"))
    assert [attrs for _, attrs in parsed.tags if attrs.get("src") or attrs.get("href", "data:")[:5] != "data:"] == []
    policy = next(
        attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert page.stat().st_size < 6e5, "the script that draws takes 0.4 MB of it"
    bundle = unpacked(parsed.scripts[1])
    assert "vegaEmbed" in bundle and len(bundle) > len(parsed.scripts[1])
    beside = {path.name for path in page.parent.iterdir() if path.is_file()}
    names = {f"report.{ending}" for ending in ("html", "md", "csv")}
    costs = ("parameters", "multiply_adds", "latency_ms", "epochs")
    pictures = {"gains", *(f"accuracy_vs_{cost}" for cost in costs)}
    assert beside == names | {f"{name}.{ending}" for name in pictures for ending in ("png", "svg")}


def test_the_verdicts_come_before_the_leaderboard(written):
    page, verdicts, _ = written
    assert len(verdicts) == 5, "one for each student of each table"
    best = next(said for said in verdicts if said.startswith("resnet8: ") and said.endswith(f"Table: {MAIN}."))
    assert "kd ranks first of 3 on validation, with 95.10 % on test (2 runs; 95 % interval" in best
    assert "Trained for at least what a live teacher costs (12 epochs), the student alone has 93.60 %." in best
    for path, board in ((page, '<section id="leaderboard">'), (page.with_suffix(".md"), "## Leaderboard")):
        text = path.read_text(encoding="utf-8")
        for said in verdicts:
            assert 0 < text.index(said) < text.index(board), path


def test_leaderboard_has_a_table_for_each_protocol_and_ranks_by_validation(written):
    text = written[0].with_suffix(".md").read_text(encoding="utf-8").split("## Methods against each other")[0]
    boards = {part.splitlines()[0]: part for part in text.split("### ")[1:]}
    rows = {title: [line.strip("| ").split(" | ") for line in board.splitlines() if line[:1] == "|"][2:]
            for title, board in boards.items()}  # fmt: skip
    assert {title: len(lines) for title, lines in rows.items()} == {
        "cifar10, protocol standard, 8 epochs": 3, "digits, protocol paper, 8 epochs": 3, MAIN: 8, "digits, protocol standard": 2,
    }  # fmt: skip
    # resnet8 with kd and resnet20 with hint have equal means.
    assert [row[:3] for row in rows[MAIN][:6]] == [
        ["1", "kd", "resnet20"], ["2", "hint", "resnet20"], ["2", "kd", "resnet8"], ["4", "hint", "resnet8"],
        ["5", "student alone", "resnet20"], ["5", "student alone", "resnet8"],
    ]  # fmt: skip
    assert [row[:2] for row in rows[MAIN][6:]] == [["–", "student alone, longer (12 epochs)"]] * 2
    assert rows[MAIN][0][3:6] == ["96.10 ± 0.14", "95.10", "+3.05"]
    assert boards[MAIN].count("corrected for 4 comparisons") == 4
    assert "gap to the teacher closed" in boards[MAIN]


def test_gains_come_first_with_a_chart_for_each_table(written, parts):
    views = {view.key[0]: view.charts[0] for view in parts["Gains"]}
    assert len(views) == 4
    marks = drawn(views[MAIN], "point")
    assert [mark["name"] for mark in marks if "gain" in mark] == [
        "kd, resnet20", "hint, resnet20", "kd, resnet8", "hint, resnet8",
    ]  # fmt: skip
    for path, words in (
        (written[0], '<section id="gains"><details open>'),
        (written[0].with_suffix(".md"), "(gains.png)"),
    ):
        text = path.read_text(encoding="utf-8")
        assert 0 < text.index(words) < text.index("Leaderboard</h2>" if path == written[0] else "## Leaderboard")
    assert "points of top-1 over the same student, seed and schedule" in written[0].read_text(encoding="utf-8")


def test_the_first_line_counts_shown_runs_and_names_five_methods(tmp_path, monkeypatch):
    for name in ("accuracy_plot", "gains_plot"):
        monkeypatch.setattr(plots, name, lambda *rows, **options: [])
    names = [f"m{number}" for number in range(7)]
    results = [full(name, 0.95, seed, config_hash=f"{name}{seed}") for name in names for seed in (0, 1)]
    path, *_ = write_report(tmp_path, tmp_path / "report.html", results + results[:1])
    summary = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[2]
    assert summary == "14 runs: m0, m1, m2, m3, m4 and 2 more on digits."


def test_a_sorted_cell_has_its_number(written):
    cells = [attrs["data-n"] for tag, attrs in Parsed(written[0].read_text(encoding="utf-8")).tags if "data-n" in attrs]
    assert "78042" in cells and "0.951" in cells and max(map(len, filter(None, cells))) < 13


def test_accuracy_charts_have_a_point_for_every_method_student_and_teacher(parts):
    views = {tuple(view.key): view.charts[0] for view in parts["Top-1 against cost"]}
    assert {key[1] for key in views} == {"parameters", "multiply-adds", "latency"}
    chart = views[MAIN, "parameters"]
    assert places(chart, "kd") == [(78_042, 95.1), (272_474, 96.1)]
    assert places(chart, "teacher") == [(21_300_000, 97)]
    assert places(chart, "student alone") == [(78_042, 93.05), (272_474, 93.05)]
    assert places(chart, "student alone, longer") == [(78_042, 92.6), (272_474, 93.6)]
    assert places(chart, mark="line")[:2] == [(78_042, 95.1), (272_474, 96.1)], "the front"
    assert [x for x, _ in places(views[MAIN, "multiply-adds"], "kd")] == [40 * 78_042, 40 * 272_474]


def test_curves_limits_cost_and_provenance_show_the_runs_numbers(parts):
    curves = {tuple(view.key): view.charts[0] for view in parts["Learning curves"]}
    lines = drawn(curves[f"resnet8, {MAIN}", "val/top1"], "line")
    assert {line["series"] for line in lines} == {"kd", "hint", "student alone"}
    # Two methods on two seeds share two baselines.
    assert sum(line["series"] == "student alone" for line in lines) == 2
    assert list(lines[0]["x"]) == list(range(1, 9))
    limits = parts["What the teacher cannot teach"][0]
    assert limits.text[:2] == LIMITS["sentences"] and "+2 by distillation" in limits.text[2]
    classes = limits.tables[0].texts
    assert [row[0] for row in classes] == ["cat", "dog", "truck"]
    assert classes[0][5:] == ["−20.00", "−25.00 to −15.00", "hurt"]
    spent = parts["Cost and return"][0]
    assert {bar["part"]: bar["seconds"] for bar in drawn(spent.charts[0], "bar")} == COST["time"]
    assert "16.0 s" in spent.tables[0].texts[0][-1]
    pairs = parts["Methods against each other"][0].tables[0].texts
    assert {tuple(row[:4]) for row in pairs} == {
        ("kd", "hint", "resnet20", "+1.00"),
        ("kd", "hint", "resnet8", "+1.00"),
    }
    runs, differing = parts["Where the numbers come from"][0].tables
    assert len(runs.rows) == 11 and {"seed", "student.name"} <= set(differing.headings)


def test_markdown_and_csv_carry_the_same_figures(written):
    text = written[0].with_suffix(".md").read_text(encoding="utf-8")
    assert "96.10 ± 0.14" in text and "Distillation hurts at cat." in text
    commands = text.partition("## Where the numbers come from")[2]
    assert "command to make it again" in commands and "The HTML page has 1 further table of this" in commands
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({row.replace("\\|", "").count("|") for row in block.splitlines()}) == 1
    with written[0].with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    known = {(row["kind"], row["method"], row["student"]): row for row in rows
             if (row["data"], row["protocol"], row["epochs"]) == ("digits", "standard", "8")}  # fmt: skip
    best = known["distilled", "kd", "resnet20"]
    assert (best["rank"], best["gain_size"], len(best["runs"].split())) == ("1", "4", 2)
    assert (float(best["top1"]), float(best["deviation"])) == pytest.approx((0.961, stats.tstd([0.96, 0.962])))
    assert float(best["validation_top1"]) == pytest.approx(0.951) and float(best["gain"]) == pytest.approx(0.0305)
    assert float(best["gain_low"]) < 0.0305 < float(best["gain_high"]) and float(best["gain_p"]) < 0.05
    assert (float(best["balanced_accuracy"]), float(best["macro_f1"])) == pytest.approx((0.9, 0.89))
    assert float(best["gap_closed"]) == pytest.approx((0.961 - 0.9305) / (0.97 - 0.9305))
    assert float(best["gain_at_cost"]) == pytest.approx(0.015) and best["gain_at_cost_p"] == "", "no spread to test"
    assert (
        known["longer", "none", "resnet20"]["trained_epochs"] == "12"
        and known["longer", "none", "resnet20"]["rank"] == ""
    )
    assert (
        "parameters" in known["distilled", "kd", "resnet8"]["front"]
        and not known["distilled", "hint", "resnet8"]["front"]
    )
    assert "2 tables of this, of 3 rows and 2 rows" in text and "| 3 rows by class" not in text


@pytest.mark.usefixtures("no_pictures")
def test_names_cannot_break_out_of_the_page(tmp_path):
    result = full(NASTY, 0.95, 0, student=(NASTY, 10), data={"name": NASTY, "classes": 2, "test": 9})
    put(tmp_path / "runs", result.changed(name="x"))
    parsed = Parsed(write_report(tmp_path / "runs", tmp_path / "report.html")[0].read_text(encoding="utf-8"))
    assert not any(tag == "b" for tag, _ in parsed.tags)
    assert len(parsed.scripts) == 3 and any(NASTY in words for words in parsed.words)
    charts = json.loads(unpacked(parsed.scripts[0]))
    places = [int(attrs["data-chart"]) for _, attrs in parsed.tags if "data-chart" in attrs]
    assert NASTY in json.dumps(charts) and len(charts) > 3 and places == list(range(len(charts)))


@pytest.mark.usefixtures("no_pictures")
def test_old_results_leave_out_the_sections_they_have_nothing_for(tmp_path):
    put(tmp_path, made("none", 0.93, None, None), made("kd", 0.95))
    path, verdicts, _ = write_report(tmp_path, tmp_path / "report.html")
    parsed = Parsed(path.read_text(encoding="utf-8"))
    shown = [attrs["id"] for tag, attrs in parsed.tags if tag == "section"]
    assert shown == ["gains", "leaderboard", "top-1-against-cost", "where-the-numbers-come-from"]
    (said,) = verdicts
    assert said.startswith("resnet8: kd ranks first of 2 on test (no validation is known)")


@pytest.mark.usefixtures("no_pictures")
def test_results_edited_by_hand_are_named_and_the_rest_shown(tmp_path):
    broken = {
        "a" * 10: {"limits": {"classes": [{"name": "cat"}]}},
        "b" * 10: {"seeds": {"seed": [1]}},
        "c" * 10: {"student": {"training": {"curves": "long"}}},
        "d" * 10: {"student": {"metrics": {"calibration_error": float("nan")}}},
        "e" * 10: {"config": {"vary": ["weather"]}},
    }
    put(tmp_path, full("kd", 0.95, 0), full("hint", 0.94, 0))
    for name, change in broken.items():
        (tmp_path / "digits" / name).mkdir()
        spoilt = merged(full("dkd", 0.9, 0).as_json(), {"config_hash": name} | change)
        (tmp_path / "digits" / name / "result.json").write_text(json.dumps(spoilt))
    (tmp_path / "digits" / "half").mkdir()
    (tmp_path / "digits" / "half" / "result.json").write_text('{"schema": 2, "na')
    path, verdicts, _ = write_report(tmp_path, tmp_path / "report.html")
    assert verdicts[-1].startswith(
        f"Not all that was found is compared: {len(broken) + 1} lines at the end of the page say"
    )
    words, text = Parsed(path.read_text(encoding="utf-8")).words, path.with_suffix(".md").read_text(encoding="utf-8")
    assert "dkd" not in text.split("## Left out")[0]
    for page in ("\n".join(words), text):
        assert [name for name in (*broken, "half") if f"/{name}/result.json is left out: " not in page] == []


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
