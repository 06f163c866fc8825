"""What the report's parts say of the runs: names, pairs, points, where each number comes from."""

import shlex
from pathlib import Path

import pytest
from helpers.drawn import drawn
from helpers.made_results import edited, made
from helpers.made_study import full
from scipy import stats

from distillab.core.run_identity import repeating_command
from distillab.reporting.charts import front
from distillab.reporting.points import points
from distillab.reporting.ranking import headline, ranked
from distillab.reporting.run_sections import provenance
from distillab.reporting.sections import pairs, sections


def test_provenance_tells_what_all_runs_share_beside_what_they_do_not():
    (view,) = provenance(ranked([full("kd", 0.95, seed) for seed in (0, 1)]))["views"]
    _, differing, common = view["tables"]
    assert differing["headings"] == ["run", "seed"]
    assert common["rows"] == [["strategy.kd.weight", "1.0"], ["student.name", "resnet8"], ["recipe.epochs", "8"]]


def test_pairs_say_interval_and_p_and_leave_single_seeds_out():
    reached = {"kd": (0.95, 0.955, 0.952), "hint": (0.93, 0.94, 0.931), "dkd": (0.96,)}
    results = [full(name, top1, seed) for name, tops in reached.items() for seed, top1 in enumerate(tops)]
    (row,) = pairs(ranked(results))["views"][0]["tables"][0]["rows"]
    known = stats.ttest_rel(reached["kd"], reached["hint"])
    low, high = known.confidence_interval()
    assert row[:2] == ["kd", "hint"] and row[4][0] == f"{100 * low:+.2f} to {100 * high:+.2f}"
    assert row[5] == [f"{known.pvalue:.3f}", pytest.approx(known.pvalue)], "the other two pairs have no p to correct by"


def taught_by(teacher, top1, **changes):
    result = full("kd", top1, 0, baseline=0.93, **changes)
    return edited(result, teacher={"name": teacher}, config={"teacher": {"name": teacher}})


def test_two_teachers_are_told_apart_everywhere():
    rows = ranked([taught_by("resnet20", 0.95), taught_by("resnet56", 0.94)])
    labels = [f"kd, resnet8, taught by {name}" for name in ("resnet20", "resnet56")]
    assert [row.title for row in rows] == labels
    made_of = {section["id"]: section["views"] for section in sections(rows)}
    assert [view["key"][0].split(": ")[1] for view in made_of["limits"]] == [f"{label}, seed 0" for label in labels]
    assert list(dict.fromkeys(bar["label"] for bar in drawn(made_of["cost"][0]["charts"][0], "bar"))) == labels
    assert [row[0] for row in made_of["cost"][0]["tables"][0]["rows"]] == labels
    assert [line.split(":")[0] for line in headline(rows)] == [
        f"resnet8 on digits, protocol standard, taught by {name}" for name in ("resnet20", "resnet56")
    ]


def test_each_share_of_labels_has_its_sentence():
    results = [edited(full("kd", 0.9 + s / 20, 0), config={"data": {"labelled": s}}) for s in (0.01, 0.1, 1.0)]
    said = [line.split(":")[0].split(", ")[-1] for line in headline(ranked(results))]
    assert said == ["all labels", "data.labelled=0.1", "data.labelled=0.01"]


def test_a_student_alone_leaves_those_of_other_budgets_in_the_chart():
    short, long = full("none", 0.9, 0), full("kd", 0.95, 0, baseline=0.94)
    long = edited(long, config={"recipe": {"epochs": 16}}, baseline={"training": {"epochs": 16}})
    alone = [point.y for point in points(ranked([short, long]), "parameters") if point.series == "student alone"]
    assert sorted(alone) == [0.9, 0.94]


def test_a_loss_that_was_never_finite_has_no_curve():
    result = full("kd", 0.95, 0)
    curves = [epoch | {"val/nll": None} for epoch in result.student.training.curves]
    rows = ranked([edited(result, student={"training": {"curves": curves}})])
    (views,) = (section["views"] for section in sections(rows) if section["id"] == "learning")
    found = {view["key"][1]: len(drawn(view["charts"][0], "line")) for view in views}
    assert found["val/top1"] == 2 and found.get("val/nll", 1) == 1, "the student alone has one"


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
    rows = ranked([timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("dkd", 0.1, 0.9, threads=8)])
    known = {row.method: (row.figure("latency_ms"), "latency_ms" in row.front) for row in rows}
    assert known == {"kd": (2.0, False), "hint": (2.0, True), "dkd": (0.1, True)}
    assert [row.measured_on for row in rows] == ["cpu, 1 thread", "cpu, 1 thread", "cpu, 8 threads"]
    assert front(points(rows, "latency_ms")) == [], "no front over two machines"
    faster = ranked(
        [timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("hint", 9.0, 0.97, student=("resnet14", 175_258))]
    )
    assert [one for one in front(points(faster, "latency_ms")) if one[1] > 0.93] == [(2.0, 0.95), (9.0, 0.97)]


def test_every_network_has_its_size_and_speed_beside_its_teacher():
    rows = ranked([timed("kd", 1.0, 0.94), timed("hint", 3.0, 0.95), timed("none", 2.0, 0.9).changed(teacher=None)])
    (view,) = next(one["views"] for one in sections(rows) if one["id"] == "deployed")
    (shown,) = view["tables"]
    lines = [dict(zip(shown["headings"], line, strict=True)) for line in shown["rows"]]
    assert [(line["network"], line["as"], line["measured on"]) for line in lines] == [
        ("resnet34", "teacher", "cpu, 1 thread"), ("resnet8", "student", "cpu, 1 thread"),
    ]  # fmt: skip
    assert lines[1]["latency, ms"] == ["2.00", 2.0] and lines[1]["parameters"] == ["78.0 k", 78_042]
    assert lines[1]["against its teacher"].startswith("resnet34: 273× fewer parameters")
