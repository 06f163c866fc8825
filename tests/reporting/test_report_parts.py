"""What the report's parts say of the runs: names, points, where each number comes from."""

import shlex
from pathlib import Path

import pytest
from helpers.drawn import drawn
from helpers.made_results import edited, exported_file, made, put, rows_of
from helpers.made_seeds import HINT, KD, costing, over_seeds
from helpers.made_study import full

from distillab.core.run_identity import repeating_command
from distillab.reporting import charts, sections
from distillab.reporting.comparison import compare, tables
from distillab.reporting.leaderboard import ROLES, leaderboard, row_record, run_record, update
from distillab.reporting.network_sections import deployed, features, judgement, provenance
from distillab.reporting.points import methods, points
from distillab.reporting.timings import pooled


def lines_of(table):
    return [dict(zip(table.headings, line, strict=True)) for line in table.texts]


def test_provenance_tells_what_all_runs_share_beside_what_they_do_not():
    (view,) = provenance(compare([full("kd", 0.95, seed) for seed in (0, 1)])).views
    _, differing, common = view.tables
    assert differing.headings == ["run", "seed"]
    assert common.rows == [["strategy.kd.weight", "1.0"], ["student.name", "resnet8"], ["recipe.epochs", "8"]]


def test_a_version_of_all_runs_is_said_once_and_others_beside_each_run():
    runs = [full("kd", 0.95, 0), edited(full("kd", 0.95, 1), versions={"torch": "2.10"})]
    (view,) = provenance(compare(runs)).views
    assert view.text == ["Versions of all runs: distillab 0.1."]
    assert {line["torch"] for line in lines_of(view.tables[0])} == {"2.9", "2.10"}
    assert "distillab" not in view.tables[0].headings


def taught_by(teacher, top1, **changes):
    result = full("kd", top1, 0, baseline=0.93, **changes)
    return edited(result, teacher={"name": teacher}, config={"teacher": {"name": teacher}})


def test_two_teachers_are_told_apart_everywhere():
    rows = compare([taught_by("resnet20", 0.95), taught_by("resnet56", 0.94)])
    labels = [f"kd teacher={name}, resnet8" for name in ("resnet20", "resnet56")]
    assert [row.title for row in rows if row.kind == "distilled"] == labels
    views = {section.title: section.views for section in sections.sections(rows)}
    limits = [view.key[0].split(": ")[1] for view in views["What the teacher cannot teach"]]
    assert limits == [f"{label}, seed 0" for label in labels]
    (cost,) = views["Cost and return"]
    assert list(dict.fromkeys(bar["label"] for bar in drawn(cost.charts[0], "bar"))) == labels
    assert [row[0] for row in cost.tables[0].texts] == labels
    board = leaderboard(rows)
    assert all(any(f"aught by {name};" in note for note in board.notes) for name in ("resnet20", "resnet56"))
    assert {f"kd teacher={name}" for name in ("resnet20", "resnet56")} <= {line[1] for line in board.texts}


def test_settings_of_one_method_have_looks_of_their_own():
    """Each has its line in the legend of every chart, and the student alone and other methods keep theirs."""
    runs = [edited(full("kd", top1, 0), config_hash=f"{top1}", overrides=[f"strategy.temperature={warm}"], config={"t": warm})
            for warm, top1 in ((2, 0.94), (8, 0.95))]  # fmt: skip
    rows = compare([*runs, full("hint", 0.93, 0)])
    assert methods(rows) == ["hint", "kd temperature=2", "kd temperature=8"]
    views = {section.name: section.views for section in sections.sections(rows)}
    for name, mark in (("accuracy", "point"), ("learning", "line")):
        series = {value["series"] for value in drawn(views[name][0].charts[0], mark)}
        assert {*methods(rows), "student alone"} <= series


def test_each_share_of_labels_has_its_table():
    results = [edited(full("kd", 0.9 + s / 20, 0), config={"data": {"labelled": s}}) for s in (0.01, 0.1, 1.0)]
    assert {place.labels for place in tables(compare(results))} == {"", "data.labelled=0.1", "data.labelled=0.01"}


def test_every_network_is_judged_once_by_its_own_answers():
    """The student alone has its own figures, and no number of errors that distillation made it repeat."""
    runs = [full("kd", 0.95, seed, baseline=0.9) for seed in (0, 1)] + [full("hint", 0.94, 0, baseline=0.9)]
    (view,) = judgement(compare(runs)).views
    lines = lines_of(view.tables[0])
    known = {line["network"]: (line["top-1 %"], line["of these, by distillation"]) for line in lines}
    assert len(lines) == 4 and known == {
        "teacher, resnet34": ("97.00", "–"), "student alone, resnet8": ("90.00", "–"),
        "kd, resnet8, taught by resnet34": ("95.00", "+2 (+2 to +2)"), "hint, resnet8, taught by resnet34": ("94.00", "+2 (−1 to +5)"),
    }  # fmt: skip


def worth(neighbours, probe):
    return {"neighbours": neighbours, "probe": probe, "samples": 50}


def test_features_stand_in_report_leaderboard_and_csv_as_means_over_seeds(tmp_path):
    runs = [
        edited(full("hint", 0.4, seed, baseline=0.2), features={
            "teacher": worth(0.6, 0.7), "student": worth(0.3 + seed / 10, 0.4), "random": worth(0.1, 0.2 + seed / 10),
        })
        for seed in (0, 1)
    ]  # fmt: skip
    rows = compare([*runs, full("kd", 0.5, 0, baseline=0.2)])
    (view,) = features(rows).views
    teacher, student, random = lines_of(view.tables[0])
    assert teacher["network"].startswith("teacher, ") and teacher["linear probe %"] == "70.00"
    assert (student["nearest neighbours %"], student["linear probe %"]) == ("35.00", "40.00")
    assert (random["network"], random["linear probe %"]) == ("resnet8, random weights", "25.00")
    assert {line["labelled samples"] for line in (teacher, student, random)} == {"50"}
    assert "What the features are worth" in [one.title for one in sections.sections(rows)]
    put(tmp_path, *runs)
    update(tmp_path)
    page = (tmp_path / "leaderboard.md").read_text()
    read = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    judged = {network: cells[:2] for network, *cells in read[-3:]}
    assert judged == {
        "teacher, resnet34": ["60.00", "70.00"], "hint, resnet8, taught by resnet34": ["35.00", "40.00"],
        "resnet8, random weights": ["10.00", "25.00"],
    }  # fmt: skip
    columns = {role: {key for key in rows_of(tmp_path)[0] if key.startswith(f"{role}_")} for role in ROLES}
    assert all({f"{role}_neighbours", f"{role}_probe"} <= known for role, known in columns.items())
    records = {record["method"]: record for record in map(row_record, rows)}
    assert records["hint"]["student_neighbours"] == pytest.approx(0.35) and "student_probe" not in records["kd"]
    assert run_record(runs[1])["random_probe"] == pytest.approx(0.3)


def test_no_run_without_labels_no_table_and_no_section(tmp_path):
    rows = compare([full("kd", 0.5, 0, baseline=0.2)])
    put(tmp_path, full("kd", 0.5, 0, baseline=0.2))
    update(tmp_path)
    assert "probe" not in (tmp_path / "leaderboard.md").read_text()
    assert "features" not in [one.name for one in sections.sections(rows)]


def test_the_student_trained_longer_stands_in_table_and_budget():
    rows = compare([*costing(over_seeds("hint", HINT), KD), *over_seeds("kd", KD)])
    shown = lines_of(leaderboard(rows))
    assert [line["method"] for line in shown].count("student alone, longer (12 epochs)") == 1
    longer = next(line for line in shown if "longer" in line["method"])
    assert longer["top-1 %"] == "91.58 ± 0.88" and longer["parameters"] == "78.0 k"
    (view,) = sections.budget(rows).views
    assert {one["x"] for one in drawn(view.charts[0], "point")} == {8, 12}
    known = [point for point in points(rows, "parameters") if point.series == "student alone, longer"]
    assert [round(point.y, 4) for point in known] == [0.9158]


def test_budgets_are_tables_of_their_own_and_one_chart():
    long = [edited(one, student={"training": {"epochs": 16}}, baseline={"training": {"epochs": 16}},
                   config={"recipe": {"epochs": 16}}) for one in over_seeds("kd", HINT)]  # fmt: skip
    rows = compare([*over_seeds("kd", KD), *long])
    assert [place.epochs for place in tables(rows)] == [16, 8]
    assert len(sections.accuracy(rows).views) == 6 and len(sections.budget(rows).views) == 1


def test_a_loss_that_was_never_finite_has_no_curve():
    result = full("kd", 0.95, 0)
    curves = [epoch | {"val/nll": None} for epoch in result.student.training.curves]
    section = sections.learning(compare([edited(result, student={"training": {"curves": curves}})]))
    known = {view.key[1]: len(drawn(view.charts[0], "line")) for view in section.views}
    assert known["val/top1"] == 2 and known["train/kd"] == 1 and "val/nll" not in known


def test_command_of_a_cell_is_the_cell_alone():
    cell = made(command="python train.py -m seed=0,1", overrides=["strategy=[kd,hint]", "seed=1"])
    assert cell.repeating_command == "python train.py 'strategy=[kd,hint]' seed=1"
    trial = ["sweep=tune", "recipe.lr=0.05", "hydra.sweeper.trials=3", "launcher=joblib"]
    assert repeating_command("", trial) == "python train.py sweep=tune recipe.lr=0.05 hydra.mode=RUN"
    assert repeating_command("python train.py", []) == "python train.py"
    for flag in ("--config-dir my_conf", "--config-dir=my_conf", "-cd my_conf"):
        own = f"python train.py {flag} strategy=mine 'name=it''s'"
        assert repeating_command(own, ["strategy=mine"]) == f"python train.py {flag} strategy=mine"
    assert repeating_command("python train.py name=it's", ["seed=1"]) == "python train.py seed=1"


@pytest.mark.parametrize(
    "study", sorted(path.stem for path in (Path(__file__).parents[2] / "conf/sweep").glob("*.yaml"))
)
def test_command_of_a_cell_composes_what_the_cell_was(study):
    """The file of a study sets numbers for all of its cells: without it, another run would come out."""
    from omegaconf import OmegaConf

    from distillab.commands.composition import compose

    def composed(words):
        return OmegaConf.to_container(compose(words))

    cell = [f"sweep={study}", "strategy=hint", "seed=1"]
    again = shlex.split(repeating_command("", cell))[2:]
    assert "hydra.mode=RUN" in again and composed(again) == composed(cell)


def timed(strategy, latency, top1, student=("resnet8", 78_042), **machine):
    place = {"device": "cpu", "threads": 1, **machine}
    measured = {"efficiency": {"latency_ms": latency, "throughput": 1000 / latency, **place}}
    return edited(made(strategy, top1, student=student), teacher={"efficiency": place}, student=measured)


def test_one_network_on_one_machine_has_one_latency():
    """Two methods of one student lie at one latency, and the better one alone is on the front; other machines are apart."""
    runs = [timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("dkd", 0.1, 0.9, threads=8)]
    rows = [row for row in compare(pooled(runs)) if row.kind == "distilled"]
    known = {row.method: (row.figure("latency_ms"), "latency_ms" in row.front) for row in rows}
    assert known == {"kd": (1.0, False), "hint": (1.0, True), "dkd": (0.1, True)}, "of two the faster run"
    assert {row.method: row.measured_on for row in rows} == {
        "kd": "cpu, 1 thread", "hint": "cpu, 1 thread", "dkd": "cpu, 8 threads",
    }  # fmt: skip
    assert charts.front(points(rows, "latency_ms")) == [], "no front over two machines"
    large = timed("hint", 9.0, 0.97, student=("resnet14", 175_258))
    faster = [row for row in compare(pooled([*runs[:2], large])) if row.kind == "distilled"]
    assert charts.front(points(faster, "latency_ms")) == [(1.0, 0.95), (9.0, 0.97)]


def test_the_timings_of_a_network_are_those_of_one_run():
    """A 95th percentile of one run below the median of another would be no percentile."""
    runs = [timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("attention", 2.0, 0.95)]
    slow = {"student": {"efficiency": {"latency_p95_ms": None}}}
    runs = [edited(run, **slow) if run.method == "hint" else run for run in runs]
    runs[0] = edited(runs[0], student={"efficiency": {"latency_p95_ms": 1.1}})
    rows = [row for row in compare(pooled(runs)) if row.kind == "distilled"]
    middle = runs[2].student.efficiency
    assert {(row.figure("latency_ms"), row.figure("latency_p95_ms")) for row in rows} == {(2.0, middle.latency_p95_ms)}


def test_files_of_a_student_stand_below_the_networks():
    run = timed("kd", 1.0, 0.94)
    (view,) = deployed(compare(pooled([run.changed(exports=[exported_file()])]))).views
    *_, line = lines_of(view.tables[0])
    assert (line["network"], line["as"], line["latency, ms"]) == ("resnet8, kd: student.onnx", "file", "0.50")
    assert line["against its teacher"] == "the student: 99.5 % the same answers"
    assert line["measured on"] == "onnxruntime 1.32.0"


def test_every_network_has_its_size_and_speed_beside_its_teacher():
    runs = [timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("none", 2.0, 0.9).changed(teacher=None)]
    (view,) = deployed(compare(pooled(runs))).views
    lines = lines_of(view.tables[0])
    assert [(line["network"], line["as"], line["measured on"]) for line in lines] == [
        ("resnet34", "teacher", "cpu, 1 thread"), ("resnet8", "student", "cpu, 1 thread"),
    ]  # fmt: skip
    assert lines[1]["latency, ms"] == "2.00" and lines[1]["parameters"] == "78.0 k"
    assert lines[1]["against its teacher"].startswith("resnet34: 273× fewer parameters")
