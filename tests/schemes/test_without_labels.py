"""`data.labels=none`: no label reaches the student, and its features are judged by neighbours and a linear probe."""

import numpy as np
import pytest
from helpers import small_run
from helpers.five_classes import save_five_classes
from helpers.made_results import edited, put

from distillab.core.errors import UserError
from distillab.core.files import write_json
from distillab.core.result_reader import read
from distillab.data.module import DataModule
from distillab.evaluation import kept
from distillab.evaluation.statistics import paired_samples
from distillab.export.safetensors import load_student
from distillab.reporting.answers import read_answers
from distillab.reporting.comparison import compare, verdicts
from distillab.reporting.leaderboard import about, row_record, run_record
from distillab.reporting.metric_table import OVER_RANDOM
from distillab.reporting.model_card import model_card
from distillab.reporting.run_end import final_table
from distillab.reporting.sweep_table import markdown
from distillab.reporting.verdict_words import verdict_words
from distillab.reporting.words import primary, row_words, verdict
from distillab.schemes import features
from distillab.schemes.features import judged
from distillab.training import linear_probe

WORDS = ("data.labels=none", "data.labelled=0.3", "data.samples=256", "recipe.epochs=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("without_labels")


@pytest.fixture(scope="module")
def taught(place):
    """A run in which maps teach a student that never sees a label."""
    with small_run.unmeasured():
        return small_run.run(place, "strategy=hint", *WORDS)


def test_the_last_epoch_gets_a_head_that_is_fitted_to_the_labelled_samples(taught, place):
    assert "ce" not in taught.config["strategy"] and taught.student.training.epoch == 3
    assert taught.features["student"].samples == 77  # three in ten of 256
    assert taught.student.metrics["top1"] == taught.features["student"].probe  # one head, fitted once
    file = next((place / "runs" / "digits").glob("*/student.safetensors"))  # of the only run so far
    time = taught.student.training.time  # the head's fit is a part of the training
    assert time["head"] > 0 and taught.cost.time == time and taught.random.training.seconds > 0
    weights = load_student(file).net.fc.weight
    assert weights.abs().max() > 0.1 and load_student(file).info.outputs == 10


def test_labelled_samples_come_once_where_they_are_fitted_once(few_digits):
    data = few_digits.with_samples(100)
    once, repeated = data.labelled_only(0.3, repeated=False), data.labelled_only(0.3)
    assert len(set(once.rows["train"].tolist())) == len(once.rows["train"]) == 30
    assert len(repeated.rows["train"]) == 100 and set(repeated.rows["train"]) == set(once.rows["train"])


def test_teacher_student_and_random_weights_are_judged_alike(taught, place):
    assert set(taught.features) == {"teacher", "student", "random"}
    assert all(0.3 < one.probe <= 1 and 0.3 < one.neighbours <= 1 for one in taught.features.values())
    assert taught.features["teacher"].probe > taught.features["random"].probe
    read_back, why = read(next((place / "runs" / "digits").glob("*/result.json")))
    assert why is None and read_back.features == taught.features
    card = model_card(read_back)
    assert "by a linear probe of" in card and "No label taught the student" in card
    assert (
        "A head was fitted on the features of the last epoch, to 77 labelled samples" in card
        and "chosen on" not in card
    )


def test_the_gain_is_over_random_weights_with_a_head_fitted_likewise(taught, place):
    """The student alone, which learned from few labels, is far below both: over it the head's part would be a gain."""
    bare, own = taught.random.metrics["top1"], taught.primary.value
    assert (
        bare == taught.features["random"].probe
        and taught.random.validation["top1"] > taught.baseline.validation["top1"]
    )
    assert taught.gain == own - bare and taught.gain < own - taught.baseline.metrics["top1"]
    (file,) = (place / "runs" / "digits").glob(f"{taught.config_hash}/{kept.NAME}")
    right = {role: kept.by_sample(file, "top1", role) == 1 for role in ("student", "random", "teacher")}
    assert right["random"].mean() == pytest.approx(bare)
    assert taught.paired == paired_samples(right["student"], right["random"])
    assert taught.gap.value == pytest.approx(right["teacher"].mean() - bare)
    change = np.average(
        [line.change for line in taught.limits.bins], weights=[line.samples for line in taught.limits.bins]
    )
    assert change == pytest.approx(taught.gain) and "student alone" not in " ".join(taught.limits.sentences)
    errors = taught.student.against_teacher.excess
    assert errors.repeated_alone == sum(
        np.load(file)["random"][~right["teacher"]] == np.load(file)["teacher"][~right["teacher"]]
    )


def test_every_page_names_the_same_reference_and_gain(taught, place):
    said, over = verdict(taught), "over the same student with random weights and a head fitted likewise"
    size = primary(taught).gain(taught.gain)
    assert over in said and size.lstrip("+−") in said and "student alone" not in said
    shown = {row[0]: row for row in final_table(taught).texts}
    assert list(shown) == ["teacher: resnet14", "student alone: resnet8", "random weights with a fitted head: resnet8",
                           "student, hint: resnet8"]  # fmt: skip
    assert f"{shown['student, hint: resnet8'][2]} points" == size
    card = model_card(taught)
    assert said in card and "gain over random weights with a fitted head, points" in card
    assert "gain over the student alone" not in card and "by distillation" in card and "the student alone 4" not in card
    _, answers, damaged = read_answers([taught], place / "runs")
    assert not damaged
    rows = {row.kind: row for row in compare([taught], answers)}
    assert rows["distilled"].gain.gain == pytest.approx(taught.gain)
    assert (rows["distilled"].gain.low, rows["distilled"].gain.high) == pytest.approx(
        (taught.paired.low, taught.paired.high)
    )
    assert rows["random"].mean == taught.random.metrics["top1"] and rows["random"].gain is rows["alone"].gain is None
    (found,) = verdicts(list(rows.values()))
    if found.first.kind == "distilled":
        assert "over random weights with a fitted head" in verdict_words(found)
    assert row_record(rows["distilled"])["gain_over"] == run_record(taught)["gain_over"] == "random"
    assert run_record(taught)["random_top1"] == taught.random.metrics["top1"]
    assert "random weights" in about(list(rows.values()))


def test_a_sweep_says_what_its_gains_are_over(taught):
    cell = {
        "overrides": [],
        "strategy": "hint",
        "student": "resnet8",
        "primary": "top1",
        "score": 0.9,
        "gain": taught.gain,
    }
    sweep, over = {"cells": 2, "command": "train.py -m"}, f"over {OVER_RANDOM}."
    assert markdown(sweep, [cell | {"over": taught.reference}]).rstrip().endswith(f"Gain: points of top-1 {over}")
    assert "random" not in markdown(sweep, [cell | {"over": "baseline"}, cell])
    both = markdown(sweep, [cell, cell | {"over": "random"}])
    assert "trained without a teacher or the same student with random weights" in both


def test_a_result_of_an_earlier_version_claims_no_gain(taught, tmp_path):
    """It compared with the student alone, and kept no answers of random weights."""
    old = taught.changed(random=None, gain=0.3, gap_closed=0.9)
    put(tmp_path, old)
    read_back, why = read(next(tmp_path.glob("*/*/result.json")))
    assert why is None and read_back.gain is read_back.gap_closed is read_back.paired is read_back.limits is None
    assert "brought is unknown: the answers of random weights with a fitted head were not kept" in verdict(read_back)
    assert f"({100 * taught.features['random'].probe:.1f} % by a linear probe)" in verdict(read_back)
    rows = {row.kind: row for row in compare([read_back])}
    assert set(rows) == {"distilled", "alone"} and rows["distilled"].gain is None
    assert "were not kept" in row_words(rows["distilled"])
    assert "gain over" not in model_card(read_back) and "by distillation" not in model_card(read_back)
    assert {row[2] for row in final_table(read_back).texts} == {"–"}
    both = compare([read_back, edited(taught, seeds={"seed": 1}, config={"seed": 1})])
    (row,) = (one for one in both if one.kind == "distilled")
    assert (len(row.results), row.gain.runs) == (2, 1)


def test_the_card_of_an_earlier_version_is_written_again(taught, place):
    folder = place / "runs" / "digits" / taught.config_hash
    known = {name: (folder / name).read_bytes() for name in ("README.md", "result.json")}
    write_json(folder / "result.json", taught.changed(random=None).as_json())
    with small_run.unmeasured():
        again = small_run.run(place, "strategy=hint", *WORDS)
    card = (folder / "README.md").read_text()
    for name, content in known.items():
        (folder / name).write_bytes(content)
    assert again.gain is None and "brought is unknown" in card and "gain over" not in card


def test_random_weights_that_are_better_rank_first(taught):
    lucky = {"metrics": {"top1": 0.99}, "validation": {"top1": 0.99}}
    results = [edited(taught, seeds={"seed": seed}, config={"seed": seed}, random=lucky) for seed in range(3)]
    (found,) = verdicts(compare(results))
    assert found.first.kind == "random" and "; no method is ahead of it on validation." in verdict_words(found)


def test_no_advice_to_train_the_teacher_on_labels(place, capsys):
    """Its features are asked for as they came; a student alone that is better does not change that."""
    save_five_classes(place)
    words = (
        f"teacher.checkpoint={place}/five.safetensors",
        "teacher.adapt=none",
        "teacher.labelled=0.05",
        "data.labelled=1.0",
    )
    with small_run.unmeasured():
        small_run.run(place, "strategy=hint", "data.labels=none", "data.samples=512", "recipe.epochs=3", *words)
    told = capsys.readouterr().err
    assert "there is little to distil; another teacher=… may help" in told and "adapt=all" not in told


def test_a_network_without_a_linear_head_is_left_out(few_digits):
    class Headless:
        class info:
            head = None

    assert judged({"student": Headless()}, few_digits, "cpu", {}) == {}


def test_a_head_that_was_fitted_before_is_the_probe(place, monkeypatch):
    """Of an adapted teacher, and of a student whose features alone were taught; random weights are fitted anew."""
    save_five_classes(place)
    heads, probe = [], linear_probe.probe
    monkeypatch.setattr(
        linear_probe, "probe", lambda model, *rest: heads.append(model.info.name) or probe(model, *rest)
    )
    monkeypatch.setattr(features, "probe", lambda *given: linear_probe.probe(*given))
    own = ("strategy=hint", f"teacher.checkpoint={place}/five.safetensors", "teacher.adapt=none", "baseline=false")
    with small_run.unmeasured():
        result = small_run.run(place, *own, *WORDS, "teacher.labelled=0.3")
    assert heads == ["resnet14", "resnet8", "resnet8"]
    assert {role: result.features[role].probe for role in ("teacher", "student")} == {
        "teacher": result.teacher.metrics["top1"], "student": result.student.metrics["top1"]
    }  # fmt: skip
    monkeypatch.undo()
    with small_run.unmeasured():
        other = small_run.run(place, *own, *WORDS, "teacher.labelled=1.0")
    assert other.features["teacher"].samples == 77, (
        "judged by the student's labels, whatever its own head was fitted to"
    )


def test_logits_teach_a_head_which_stays(place):
    with small_run.unmeasured():
        result = small_run.run(place, "strategy=kd", *WORDS, "baseline=false")
    assert "ce" not in result.config["strategy"] and result.features["student"].probe != result.student.metrics["top1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("strategy=none",), "learns from labels alone"),
        (("strategy=dkd",), r"strategy\.dkd reads labels.*data\.labels=teacher"),
        (("strategy=hint", "scheme=born_again"), "features alone teach none"),
    ],
)
def test_what_needs_labels_is_refused(place, words, said):
    with pytest.raises(UserError, match=said):
        small_run.run(place, *words, *WORDS)


def test_labels_are_hidden_and_nobody_answers_for_them(few_digits):
    data = few_digits.with_samples(100)
    for source, labelled, answered in (
        ("all", 1.0, False),
        ("all", 0.5, True),
        ("teacher", 1.0, True),
        ("none", 1.0, False),
    ):
        other = DataModule._clone(data, label_source=source, labelled=labelled)
        assert other.teacher_answers == answered
        assert other.hides_labels == (source != "all" or labelled < 1)
