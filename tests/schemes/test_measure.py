"""What is said of trained networks before they are compared."""

from types import SimpleNamespace

import pytest

from distillab.core.configuration import TrainerConfig
from distillab.schemes.measure import warn_if_below
from distillab.schemes.record import Record
from distillab.tasks.image_classification import ImageClassification


@pytest.mark.parametrize(
    ("teacher", "alone", "limit", "said"),
    [
        (0.65, 0.2, None, "net alone (20.00 % on validation) is no better than chance"),
        (None, 0.2, None, "no better than chance"),  # a scheme without a fixed teacher
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
