"""`data.labels=none`: no label reaches the student, and its features are judged by neighbours and a linear probe."""

import pytest
from helpers import small_run
from helpers.five_classes import save_five_classes

from distillab.core.errors import UserError
from distillab.core.result_reader import read
from distillab.data.module import DataModule
from distillab.export.safetensors import load_student
from distillab.reporting.model_card import model_card
from distillab.reporting.words import verdict
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
    bare = 100 * taught.features["random"].probe
    assert f"; the same head on random weights has {bare:.1f} %" in verdict(taught)


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
