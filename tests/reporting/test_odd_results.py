"""What may lie in a folder of runs instead of a result, and what a result's texts may try: no page breaks."""

import json
import os
import re

import pytest
from helpers.made_results import edited, made, merged, put, rows_of

from distillab.core import result_reader as reading
from distillab.core.errors import printable
from distillab.reporting import leaderboard
from distillab.reporting.model_card import model_card
from distillab.reporting.report import write_report


def test_broken_results_are_named_and_left_out(tmp_path, caplog):
    put(tmp_path, made())
    content = made().as_json()
    whole = json.dumps(content)
    broken = {
        "half": whole[: len(whole) // 2],
        "foreign": json.dumps(content | {"schema": 99}),
        "edited": json.dumps(merged(content, {"student": {"metrics": {"top1": 95.0}}})),
        "text": json.dumps(content | {"strategy": 3}),
        "missing": json.dumps({key: value for key, value in content.items() if key != "data"}),
        "nan": whole.replace("0.95", "NaN"),
        "list": "[]",
        "negative": json.dumps(merged(content, {"primary": {"value": -3.0}, "student": {"metrics": {"top1": -3.0}}})),
        "validated": json.dumps(merged(content, {"student": {"validation": {"top1": 55.0}}})),
        "direction": json.dumps(merged(content, {"primary": {"higher_is_better": False}})),
        "longer": json.dumps(content | {"longer": {"epochs": -4, "metrics": {"top1": 0.9}}}),
        "overrides": json.dumps(content | {"overrides": [1]}),
        "seed": json.dumps(content | {"seeds": {"seed": "1"}}),
        "best": json.dumps(merged(content, {"student": {"metrics": {"top1_best": "0.9"}}})),
        "gain": json.dumps(content | {"gain": 0.0200001}),
        "baseline": json.dumps(merged(content, {"baseline": {"metrics": {"top1": 0.5}}})),
        "longer's": json.dumps(
            merged(
                content,
                {"longer": {"epochs": 9, "metrics": {"top1": 0.5}}, "cost": {"equal_compute": {"gain_live": 0.02}}},
            )
        ),
        "binary": "\udcff",
    }
    for name, text in broken.items():
        path = tmp_path / "x" / name / "result.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode(errors="surrogateescape"))
    results, left_out = reading.load_all(tmp_path)
    assert len(results) == 1 and len(left_out) == len(broken)
    leaderboard.update(tmp_path)
    shown = (tmp_path / "leaderboard.md").read_text()
    for name in broken:
        (line,) = [line for line in left_out if f"/{name}/" in line]
        assert "\n" not in line and line in caplog.messages and line in shown
    assert any("`gain` is 0.02, and `student` and `baseline` differ by 0.45 in top1" in line for line in left_out)
    assert any("schema is 99" in line for line in left_out) and any("95.0" in line for line in left_out)
    assert len(rows_of(tmp_path)) == 1


def texts():
    """What a file may hold instead of a result, by a name."""
    good = made().as_json()

    def with_(**changes):
        return json.dumps(merged(good, changes))

    student = {"metrics": {"top1": 0.5}}
    yield "a long integer", with_(gain=10**400)
    yield "a very long integer", json.dumps(good)[:-1] + ', "gain": ' + "9" * 5000 + "}"
    yield "a large count", with_(student={"efficiency": {"parameters": 10**30}})
    yield "a large number", with_(primary={"value": 1e200}, student={"metrics": {"top1": 1e200}})
    yield "infinity in a config", json.dumps(good)[:-1] + ', "config": {"seed": 1e999}}'
    yield "half a character", with_(name="\ud800")
    yield "half a character in a config", with_(config={"a": {"\udfff": 1}})
    yield "a long name", with_(name="n" * 5000)
    yield "a name too long for a folder", with_(config_hash="n" * 300)
    yield "a long name of a student", with_(student={"name": "n" * 5000, **student})
    yield "brackets", "[" * 200_000
    yield "closed brackets", "[" * 900 + "]" * 900
    yield "deep mappings", with_(config={"a": json.loads('{"a":' * 300 + "1" + "}" * 300)})
    yield "NaN", with_(gain=float("nan"))
    yield "a list", "[]"
    yield "a schema of another kind", with_(schema=["x" * 9000])
    yield "text for a part", with_(student="resnet8")
    yield "an old one with text for a part", with_(schema=1, student={"top1": 0.5, "training": "x" * 9000})
    yield "a group that is text", with_(config={"data": "digits"})
    yield "epochs that are a list", with_(config={"recipe": {"epochs": [1]}})
    yield "a seed that is text", with_(seeds={"seed": "zero"})
    yield "a seed of the config that is text", json.dumps(merged(good, {"config": {"seed": "x"}}) | {"seeds": {}})
    yield "another date", with_(created="yesterday")
    yield "no text", "\udcff\udcfe"


@pytest.mark.usefixtures("no_pictures")
def test_odd_results_are_left_out_in_a_short_line_and_stop_no_page(tmp_path, caplog):
    put(tmp_path, made())
    odd = dict(texts())
    for name, text in odd.items():
        (tmp_path / "odd" / name).mkdir(parents=True)
        (tmp_path / "odd" / name / "result.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "odd" / "a folder" / "result.json").mkdir(parents=True)
    (tmp_path / "odd" / os.fsdecode(b"\xff") / "result.json").mkdir(parents=True)
    (tmp_path / "odd" / "a pipe").mkdir()
    os.mkfifo(tmp_path / "odd" / "a pipe" / "result.json")
    (tmp_path / "odd" / "large").mkdir()
    with (tmp_path / "odd" / "large" / "result.json").open("wb") as file:
        file.truncate(10**9)
    leaderboard.update(tmp_path)
    assert len(rows_of(tmp_path)) == 1
    results, left_out = reading.load_all(tmp_path)
    named = {
        name
        for name in [*odd, "a folder", "a pipe", "large", "\\udcff"]
        if any(f"/{name}/" in line for line in left_out)
    }
    assert len(results) == 1 and len(left_out) == len(odd) + 4 and len(named) == len(left_out)
    assert max(len(line.split("result.json is left out: ")[1]) for line in left_out) < 300
    assert "\n" not in "".join(left_out)
    assert write_report(tmp_path, tmp_path / "report.html")[0].is_file()


FORMULAS = ["=1+1", "+cmd", "-1-1", "@SUM(A1)", "\t=1", "\r=1"]


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    """Numbers stay as they are, those in text too."""
    for number, text in enumerate([*FORMULAS, "-0.5", "+1e3", "kd"]):
        put(tmp_path / str(number), made(top1=0.5, baseline=0.75, overrides=[text]))
        leaderboard.update(tmp_path / str(number))
        (row,) = rows_of(tmp_path / str(number))
        told = printable(text)  # a tab or a line's end is escaped where results are read
        assert row["changed"] == (f"'{told}" if text in FORMULAS and told == text else told) and row["gain"] == "-0.25"


def test_a_control_character_in_a_name_stops_no_picture_and_forges_no_line(tmp_path):
    """The engine that draws pictures ends the whole process on some of them."""
    name = "kd\x1b]0;x\x07\x00\ufffe\n\n# FORGED"
    put(tmp_path, edited(made(), strategy=name, student={"name": name}, teacher={"name": name}))
    leaderboard.update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    assert (tmp_path / "accuracy_vs_parameters.png").is_file()
    page = (tmp_path / "leaderboard.md").read_text()
    assert "\\x1b]0;x\\x07" in page and "\n# FORGED" not in page


@pytest.mark.usefixtures("no_pictures")
def test_no_page_obeys_a_tag_in_a_name(tmp_path):
    bad = "<script>alert(1)</script>"
    student = {"name": bad, "metrics": {"top1": 0.95}}
    words = [f"student.name={bad}", "a=```\n\n<img src=x>"]
    put(tmp_path, edited(made(), name="b", overrides=words, strategy=bad, data={"name": bad}, student=student))
    leaderboard.update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    for name in ("leaderboard.md", "report.md", "report.html"):
        page = (tmp_path / name).read_text()
        assert bad not in page and "<img src=x" not in page and "script" in page
    (result,), _ = reading.load_all(tmp_path)
    card = model_card(result)
    fence = re.search("^(`{3,})$", card.split("## How it was made")[1], re.MULTILINE)[1]
    assert len(fence) == 4 and "<" not in card.split("---")[2].split("## How it was made")[0].replace("<path>", "")
    assert "<" not in card.split(fence)[-1]


@pytest.mark.usefixtures("no_pictures")
def test_the_reports_own_pictures_are_shown_and_no_other(tmp_path):
    put(tmp_path, edited(made(), strategy="![x](http://x.org/a.png)"))
    page = write_report(tmp_path, tmp_path / "report.html")[0].with_suffix(".md").read_text()
    assert re.findall(r"(?<!\\)!\[.*", page) == [
        "![The gains with their intervals](gains.png)",
        "![The primary figure against deployed parameters](accuracy_vs_parameters.png)",
    ]
    assert "!\\[x](http://x.org/a.png)" in page
