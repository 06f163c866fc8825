"""The leaderboard over all results in a folder."""

import json
import os
import re
import threading
import time

import pytest
from helpers.made_results import edited, made, merged, put, rows_of

from distillab.core import result_reader as reading
from distillab.reporting import leaderboard, metric_table
from distillab.reporting.model_card import model_card
from distillab.reporting.report import write_report


def test_leaderboard_orders_each_ranking_with_ties(tmp_path):
    large = ("resnet20", 272_474)
    put(
        tmp_path,
        made("kd", 0.95, config_hash="b" * 10),
        made("kd", 0.95, student=large, config_hash="a" * 10),
        made("hint", 0.96, overrides=["strategy=hint", "seed=3"], seeds={"seed": 3}),
        made("none", 0.93, None, None),
        edited(made("kd", 0.99, protocol="paper"), student={"metrics": {"top1_best": 0.99, "top1_last": 0.98}}),
        made("kd", 0.70, data={"name": "cifar10"}),
    )
    assert len(leaderboard.update(tmp_path)) == 6
    assert {path.name for path in tmp_path.glob("[a-z]*") if path.is_file()} == {"leaderboard.csv", "leaderboard.md"}
    rows = rows_of(tmp_path)
    found = [(row["data"], row["protocol"], row["rank"], row["strategy"], row["student"]) for row in rows]
    assert found == [
        ("cifar10", "standard", "1", "kd", "resnet8"),
        ("digits", "paper", "1", "kd", "resnet8"),
        ("digits", "standard", "1", "hint", "resnet8"),
        ("digits", "standard", "2", "kd", "resnet8"),
        ("digits", "standard", "2", "kd", "resnet20"),
        ("digits", "standard", "4", "none", "resnet8"),
    ]
    assert (rows[2]["seed"], rows[2]["changed"]) == ("3", "strategy=hint seed=3")
    assert float(rows[2]["gain"]) == pytest.approx(0.03) and rows[5]["gain"] == ""
    assert (rows[1]["top1_best"], rows[1]["top1_last"], rows[2]["top1_best"]) == ("0.99", "0.98", "")
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert sum("best epoch on test %" in line for line in lines) == 1, "for the paper's protocol alone"
    assert [line for line in lines if line.startswith("## ")] == [
        "## cifar10, protocol standard", "## digits, protocol paper", "## digits, protocol standard",
    ]  # fmt: skip
    ranking = lines[lines.index("## digits, protocol standard") + 2 :][:6]
    assert len({len(line) for line in ranking}) == 1, "columns stand under each other"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in ranking]
    alone = dict(zip(cells[0], cells[5], strict=True))
    assert (alone["top-1 %"], alone["gain"], alone["parameters"]) == ("93.00", "–", "78.0 k")
    assert metric_table.percent(-0.5, 0) == "−50"
    best = dict(zip(cells[0], cells[2], strict=True))
    assert (best["gain"], best["gap closed %"], best["teacher top-1 %"]) == ("+3.00", "75", "97.00")


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
        "overrides": json.dumps(content | {"overrides": [1]}),
        "seed": json.dumps(content | {"seeds": {"seed": "1"}}),
        "best": json.dumps(merged(content, {"student": {"metrics": {"top1_best": "0.9"}}})),
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
    assert any("schema is 99" in line for line in left_out) and any("95.0" in line for line in left_out)
    assert len(rows_of(tmp_path)) == 1


def test_trials_of_a_tuning_are_counted_but_not_ranked(tmp_path):
    from distillab.core.errors import UserError
    from distillab.reporting.leaderboard import refresh
    from distillab.reporting.report import write_report

    trials = [made("kd", 0.99, config_hash=f"{n}" * 10, overrides=["sweep=tune", "strategy=kd"]) for n in range(2)]
    put(tmp_path, *trials)
    refresh(tmp_path)  # the first runs of a folder may be trials: there is nothing to draw then
    assert not (tmp_path / "accuracy_vs_parameters.png").exists()
    line = "2 trials of a tuning are not ranked here: sweeps/*/tune.md compares them"
    with pytest.raises(UserError, match="2 trials of a tuning"):
        write_report(tmp_path, tmp_path / "report.html")
    put(tmp_path, *trials, made("kd", 0.95, overrides=["sweep=seeds", "strategy=kd"]))
    refresh(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    assert [row["top1"] for row in rows_of(tmp_path)] == ["0.95"]
    for page in ("leaderboard.md", "report.md"):
        shown = (tmp_path / page).read_text()
        assert line in shown and "99.00" not in shown, page


def test_a_distilled_result_may_lack_the_baseline(tmp_path):
    from distillab.reporting.leaderboard import refresh

    put(tmp_path, made().changed(baseline=None), made("hint"))
    refresh(tmp_path)
    assert len(rows_of(tmp_path)) == 2 and (tmp_path / "accuracy_vs_parameters.png").exists()


def test_concurrent_updates_leave_whole_files_with_every_result(tmp_path):
    errors = []

    def work(number):
        try:
            for turn in range(5):
                put(tmp_path, made(name=f"run{number}-{turn}"))
                leaderboard.update(tmp_path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {row["name"] for row in rows_of(tmp_path)} == {f"run{n}-{t}" for n in range(4) for t in range(5)}
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_a_slow_update_does_not_bring_back_an_older_leaderboard(tmp_path, monkeypatch):
    put(tmp_path, made(name="first"))
    load_all, has_read = leaderboard.load_all, threading.Event()

    def slow_at_first(runs):
        found = load_all(runs)
        if not has_read.is_set():
            has_read.set()
            time.sleep(0.3)
        return found

    monkeypatch.setattr(leaderboard, "load_all", slow_at_first)
    slow = threading.Thread(target=leaderboard.update, args=(tmp_path,))
    slow.start()
    has_read.wait()
    put(tmp_path, made(name="second"))
    leaderboard.update(tmp_path)
    slow.join()
    assert {row["name"] for row in rows_of(tmp_path)} == {"first", "second"}


def test_leaderboard_of_nothing(tmp_path):
    leaderboard.update(tmp_path / "runs")
    assert "No results yet" in (tmp_path / "runs" / "leaderboard.md").read_text()


def test_a_scheme_stands_beside_its_strategy(tmp_path):
    put(tmp_path, made("kd"), made("kd", scheme="ema"), made("kd", scheme="offline"))
    leaderboard.update(tmp_path)
    assert sorted(row["strategy"] for row in rows_of(tmp_path)) == ["kd", "kd", "kd (ema)"]


def other_data(fingerprint, root="/a/images", top1=0.95, **changes):
    """A result on a folder of images, by the data's fingerprint."""
    config = {"seed": 0, "data": {"root": root}}
    return made(top1=top1, config=config, data={"name": "images", "fingerprint": fingerprint}, **changes)


def test_two_data_sets_of_one_name_are_ranked_apart_everywhere(tmp_path):
    """They are told apart by their folders, or, where what lies in one folder has changed, by their fingerprints."""
    from distillab.reporting import plots
    from distillab.reporting.report import write_report

    put(
        tmp_path,
        other_data("a" * 32),
        other_data("a" * 32, "/copy/images", 0.9),
        other_data("b" * 32, "/b/images", 0.8),
    )
    leaderboard.refresh(tmp_path)
    names = ["images (/a/images)", "images (/b/images)"]
    assert [(row["data"], row["rank"]) for row in rows_of(tmp_path)] == [
        (names[0], "1"),
        (names[0], "2"),
        (names[1], "1"),
    ]
    page = write_report(tmp_path, tmp_path / "report.html").with_suffix(".md").read_text()
    assert all(f"### {name}, protocol standard" in page for name in names)
    results, _ = reading.load_all(tmp_path)
    assert [panel["title"]["text"] for panel in plots.figure(results).to_dict()["concat"]] == names
    same_place = [other_data("a" * 32), other_data("b" * 32), other_data(None, "")]
    known = ["images (/a/images, aaaaaaaa)", "images (/a/images, bbbbbbbb)", "images (unknown)"]
    assert [result.data.name for result in reading.told_apart(same_place)] == known
    assert [result.data.name for result in reading.told_apart(same_place[:1])] == ["images"]


def test_runs_of_debug_are_kept_out_of_the_ranking_of_others(tmp_path):
    from distillab.reporting.report import write_report

    short = [made("kd", 0.99, overrides=[word], name="debug") for word in ("debug=quick", "+debug=small")]
    put(tmp_path, *short)
    assert len(leaderboard.update(tmp_path)) == 2, "without others they are all that there is to show"
    assert "2 runs of debug=… are all that there is" in (tmp_path / "leaderboard.md").read_text()
    put(tmp_path, *short, made("kd", 0.95, overrides=["debug=null"]))
    leaderboard.update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    assert [row["top1"] for row in rows_of(tmp_path)] == ["0.95"]
    for page in ("leaderboard.md", "report.md"):
        shown = (tmp_path / page).read_text()
        assert "2 runs of debug=… are too short to be ranked with others" in shown and "99.00" not in shown, page


def test_a_file_that_is_left_out_is_said_once_not_after_every_cell_of_a_sweep(tmp_path, caplog):
    put(tmp_path, made())
    (tmp_path / "digits" / "broken").mkdir()
    (tmp_path / "digits" / "broken" / "result.json").write_text("{")
    for _ in range(3):
        leaderboard.update(tmp_path)
    assert [record.message.count("is left out") for record in caplog.records] == [1]
    assert "is left out" in (tmp_path / "leaderboard.md").read_text()


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
    assert len(leaderboard.update(tmp_path)) == 1
    results, left_out = reading.load_all(tmp_path)
    named = {
        name
        for name in [*odd, "a folder", "a pipe", "large", "\\udcff"]
        if any(f"/{name}/" in line for line in left_out)
    }
    assert len(results) == 1 and len(left_out) == len(odd) + 4 and len(named) == len(left_out)
    assert max(len(line.split("result.json is left out: ")[1]) for line in left_out) < 300
    assert "\n" not in "".join(left_out)
    assert write_report(tmp_path, tmp_path / "report.html").is_file()


FORMULAS = ["=1+1", "+cmd", "-1-1", "@SUM(A1)", "\t=1", "\r=1"]


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    """Numbers stay as they are, those in text too."""
    for number, text in enumerate([*FORMULAS, "-0.5", "+1e3", "kd"]):
        put(tmp_path / str(number), made(overrides=[text], gain=-0.25))
        leaderboard.update(tmp_path / str(number))
        (row,) = rows_of(tmp_path / str(number))
        assert row["changed"] == (f"'{text}" if text in FORMULAS else text) and row["gain"] == "-0.25"


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
