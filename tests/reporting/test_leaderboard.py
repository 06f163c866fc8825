"""The leaderboard over all results in a folder."""

import re
import threading
import time

import pytest
from helpers.made_results import edited, made, put, rows_of
from helpers.made_seeds import HINT, KD, costing, over_seeds

from distillab.core import files
from distillab.core import result_reader as reading
from distillab.core.errors import UserError
from distillab.core.rankable import told_apart
from distillab.reporting import leaderboard, plots
from distillab.reporting.comparison import compare
from distillab.reporting.model_card import model_card
from distillab.reporting.report import write_report


def test_leaderboard_ranks_rows_not_runs_and_the_csv_has_a_line_a_run(tmp_path):
    seeds = over_seeds("hint", HINT[:3], overrides=["strategy=hint", "seed=3"])
    put(
        tmp_path,
        *costing(seeds, KD[:3]),
        *over_seeds("kd", KD[:3], ahead=0.05),
        edited(made("kd", 0.99, protocol="paper"), student={"metrics": {"top1_best": 0.99, "top1_last": 0.98}}),
        made("kd", 0.70, data={"name": "cifar10"}),
    )
    leaderboard.update(tmp_path)
    assert len(rows_of(tmp_path)) == 8
    assert {path.name for path in tmp_path.glob("[a-z]*") if path.is_file()} == {"leaderboard.csv", "leaderboard.md"}
    runs = [row for row in rows_of(tmp_path) if row["strategy"] == "hint"]
    assert [row["seed"] for row in runs] == ["0", "1", "2"] and "rank" not in runs[0]
    assert float(runs[0]["gain"]) == pytest.approx(0.01) and runs[0]["changed"] == "strategy=hint seed=3"
    assert float(runs[0]["longer_top1"]) == pytest.approx(0.91 - 0.004) and runs[0]["longer_epochs"] == "12"
    assert runs[0]["gap_closed"] == "", "whether there is a gap is not known"
    (paper,) = (row for row in rows_of(tmp_path) if row["protocol"] == "paper")
    assert (paper["top1_best"], paper["top1_last"], runs[0]["top1_best"]) == ("0.99", "0.98", "")
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert sum("best epoch on test %" in line for line in lines) == 1, "for the paper's protocol alone"
    assert [line for line in lines if line.startswith("## ")] == [
        "## cifar10, protocol standard", "## digits, protocol paper", "## digits, protocol standard, 8 epochs",
    ]  # fmt: skip
    start = lines.index("## digits, protocol standard, 8 epochs")
    assert "kd ranks first of 3 on validation, with 90.73 % on test (3 runs" in lines[start + 2], "verdict first"
    ranking = lines[start + 4 :][:6]
    assert len({len(line) for line in ranking}) == 1, "columns stand under each other"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in ranking]
    shown = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    assert [(row["rank"], row["method"]) for row in shown] == [
        ("1", "kd"), ("2", "hint"), ("3", "student alone"), ("–", "student alone, longer (12 epochs)"),
    ]  # fmt: skip
    assert (shown[2]["top-1 %"], shown[2]["gain"], shown[2]["parameters"]) == ("90.57 ± 0.60", "–", "78.0 k")
    assert (shown[1]["gain"], shown[1]["at the same cost"]) == ("+1.20", "+0.17")
    assert re.fullmatch(r"−?\d+\.\d\d to \d+\.\d\d", shown[0]["95 % interval"])


@pytest.mark.usefixtures("no_pictures")
def test_minus_is_the_minus_sign_on_every_page(tmp_path):
    """A hyphen before a digit is a date's or a name's, as in top-1, and never a number's."""
    losses = costing(over_seeds("hint", [-gain for gain in HINT]), [-gain for gain in HINT])
    excess = {"errors": 12, "repeated": 3, "repeated_alone": 5, "low": -4.0, "high": -0.5}
    put(tmp_path, *(edited(run, student={"against_teacher": {"excess": excess}}) for run in losses))
    leaderboard.update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    card = model_card(losses[0])
    for page in (card, *((tmp_path / name).read_text() for name in ("leaderboard.md", "report.md", "report.html"))):
        shown = re.sub("<[^>]*>", " ", page.partition("<script")[0].partition("<body>")[2]) or page
        assert "−1." in shown and not re.search(r"(?<![\w.\-])-\d", shown)
        assert "± " not in card and "could have shown" not in shown


@pytest.mark.usefixtures("no_pictures")
def test_trials_of_a_tuning_are_counted_but_not_ranked(tmp_path):
    trials = [made("kd", 0.99, config_hash=f"{n}" * 10, overrides=["sweep=tune", "strategy=kd"]) for n in range(2)]
    put(tmp_path, *trials)
    leaderboard.refresh(tmp_path)  # the first runs of a folder may be trials: there is nothing to draw then
    line = "2 trials of a tuning are not ranked here: sweeps/*/tune.md compares them"
    with pytest.raises(UserError, match="2 trials of a tuning"):
        write_report(tmp_path, tmp_path / "report.html")
    put(tmp_path, *trials, made("kd", 0.95, overrides=["sweep=seeds", "strategy=kd"]))
    leaderboard.refresh(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    assert [row["top1"] for row in rows_of(tmp_path)] == ["0.95"]
    for page in ("leaderboard.md", "report.md"):
        shown = (tmp_path / page).read_text()
        assert line in shown and "99.00" not in shown, page


def test_a_distilled_result_may_lack_the_baseline(tmp_path):
    put(tmp_path, made().changed(baseline=None), made("hint"))
    leaderboard.refresh(tmp_path)
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
    by_path, has_read = leaderboard.by_path, threading.Event()

    def slow_at_first(runs):
        found = by_path(runs)
        if not has_read.is_set():
            has_read.set()
            time.sleep(0.3)
        return found

    monkeypatch.setattr(leaderboard, "by_path", slow_at_first)
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


@pytest.mark.usefixtures("no_pictures")
def test_two_data_sets_of_one_name_are_ranked_apart_everywhere(tmp_path):
    """They are told apart by their folders, or, where what lies in one folder has changed, by their fingerprints."""
    put(
        tmp_path,
        other_data("a" * 32),
        other_data("a" * 32, "/copy/images", 0.9),
        other_data("b" * 32, "/b/images", 0.8),
    )
    leaderboard.refresh(tmp_path)
    names = ["images (/a/images)", "images (/b/images)"]
    assert [row["data"] for row in rows_of(tmp_path)] == [names[0], names[0], names[1]]
    page = write_report(tmp_path, tmp_path / "report.html")[0].with_suffix(".md").read_text()
    assert all(f"### {name}, protocol standard" in page for name in names)
    rows = compare(told_apart(reading.load_all(tmp_path)[0]))
    titles = [f"{name}, protocol standard" for name in names]
    assert [panel["title"]["text"] for panel in plots.figure(rows).to_dict()["concat"]] == titles
    same_place = [other_data("a" * 32), other_data("b" * 32), other_data(None, "")]
    known = ["images (/a/images, aaaaaaaa)", "images (/a/images, bbbbbbbb)", "images (unknown)"]
    assert [result.data.name for result in told_apart(same_place)] == known
    assert [result.data.name for result in told_apart(same_place[:1])] == ["images"]


@pytest.mark.usefixtures("no_pictures")
def test_runs_of_debug_are_kept_out_of_the_ranking_of_others(tmp_path):
    short = [made("kd", 0.99, overrides=[word], name="debug") for word in ("debug=quick", "+debug=small")]
    put(tmp_path, *short)
    leaderboard.update(tmp_path)
    assert len(rows_of(tmp_path)) == 2, "without others they are all that there is to show"
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


def test_a_run_under_two_names_counts_once_and_a_gain_of_some_runs_says_so(tmp_path):
    first, second = over_seeds("hint", HINT[:2])
    (first,) = costing([first], KD[:1])
    first, second = (
        one.changed(config_hash=10 * name, weights={"student.safetensors": name})
        for one, name in ((first, "a"), (second, "b"))
    )
    again = first.changed(name="other", created="2031-01-01T00:00:00+00:00")
    for one in (first, again, second):
        files.write_json(tmp_path / one.name / one.config_hash / "result.json", one.as_json())
    leaderboard.update(tmp_path)
    said = (tmp_path / "leaderboard.md").read_text()
    assert f"{first.name}/aaaaaaaaaa is the same run as other/aaaaaaaaaa, and is not counted twice" in said
    assert "(1 of 2 runs)" in said and "2 runs" in said


@pytest.mark.usefixtures("no_pictures")
def test_a_copy_of_a_folder_is_named_by_where_it_lies(tmp_path):
    """The config in both says the name of the first."""
    run = made(weights={"student.safetensors": "a"})
    for folder in ("digits/0123456789", "a copy/0123456789", "digits/renamed"):
        files.write_json(tmp_path / folder / "result.json", run.as_json())
    leaderboard.update(tmp_path)
    write_report(tmp_path, tmp_path / "report.html")
    for page in ("leaderboard.md", "report.md"):
        lines = (tmp_path / page).read_text().splitlines()
        assert [line for line in lines if "same run" in line] == [
            f"- {folder} is the same run as digits/0123456789, and is not counted twice"
            for folder in ("a copy/0123456789", "digits/renamed")
        ]
    assert len(rows_of(tmp_path)) == 1
