"""What is said of trained networks before they are compared."""

from types import SimpleNamespace

import pytest

from distillab.core.configuration import TrainerConfig
from distillab.core.result_parts import Training
from distillab.schemes.measure import warn_if_below, warn_if_weak
from distillab.schemes.record import FittedHead, Record
from distillab.tasks.image_classification import ImageClassification


@pytest.mark.parametrize(
    ("teacher", "alone", "limit", "said"),
    [
        (0.65, 0.2, None, "net alone (20.00 % on validation) is hardly better than chance"),
        (None, 0.2, None, "hardly better than chance"),  # a scheme without a fixed teacher
        (0.65, 0.2, 4, ""),  # debug=quick trains nothing on purpose
        (0.4, 0.5, None, "the teacher (40.00 % on validation) is no better than net alone (50.00 %)"),
        (0.65, 0.5, None, ""),
        (None, 0.5, None, ""),
    ],
)
def test_a_student_at_chance_and_a_teacher_below_the_student_are_told(teacher, alone, limit, said, capsys):
    setting = SimpleNamespace(task=ImageClassification(), trainer=TrainerConfig(limit_train_batches=limit))
    records = [None if score is None else Record(scores={"validation": score}) for score in (teacher, alone)]
    warn_if_below(*records, setting, SimpleNamespace(name="net", outputs=5))
    told = capsys.readouterr().err
    assert said in told and bool(told) == bool(said)


@pytest.mark.parametrize(
    ("source", "head", "said"),
    [
        (
            "own.pth",
            None,
            "if its outputs are features and no classes, teacher.adapt=head fits a head to them; else check",
        ),
        (
            "own.pth, with a head fitted here",
            FittedHead(data="x", samples=9, decay=1.0),
            "tell little of these classes",
        ),
        ("trained here", None, "more teacher.recipe.epochs"),
    ],
)
def test_a_teacher_at_chance_is_told_with_what_helps(source, head, said, capsys):
    setting = SimpleNamespace(task=ImageClassification())
    record = Record(scores={"validation": 0.3}, training=Training(source=source), head=head)
    warn_if_weak("net", record, setting, 4)
    told = capsys.readouterr().err
    assert "hardly better than chance (30.0 % of validation, chance 25.0 %)" in told and said in told
    assert ("teacher.adapt=head" in told) == (said.startswith("if"))


def test_a_teacher_below_the_student_may_lack_a_head(capsys):
    setting = SimpleNamespace(task=ImageClassification(), trainer=TrainerConfig())
    record = Record(scores={"validation": 0.4}, training=Training(source="own.pth"))
    given = record, Record(scores={"validation": 0.5}), setting, SimpleNamespace(name="net", outputs=4)
    warn_if_below(*given)
    assert "teacher.adapt=head, which fits a head to its features, teacher.adapt=all" in capsys.readouterr().err
    warn_if_below(*given, labels=False)
    told = capsys.readouterr().err
    assert "there is little to distil; another teacher=… may help" in told and "teacher.adapt" not in told


@pytest.mark.parametrize(
    ("outputs", "value", "told"), [(2, 0.7, False), (2, 0.6, True), (10, 0.16, False), (10, 0.14, True)]
)
def test_two_classes_have_a_chance_that_leaves_room_for_what_was_learned(outputs, value, told, capsys):
    record = Record(scores={"validation": value}, training=Training(source="trained here"))
    warn_if_weak("net", record, SimpleNamespace(task=ImageClassification()), outputs)
    assert ("hardly better than chance" in capsys.readouterr().err) == told
