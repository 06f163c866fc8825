"""The numbers that a strategy file has for a task."""

import pytest

from distillab.core.errors import UserError
from distillab.core.task_numbers import for_task


def test_what_a_file_has_for_a_task_is_taken_number_by_number_and_goes():
    file = {"a": {"x": 1, "y": {"z": 2}}, "phases": [1], "for": {"t": {"a": {"y": 3}, "phases": [2]}}}
    assert for_task(file, "t") == {"a": {"x": 1, "y": 3}, "phases": [2]}
    for task in ("u", None):
        assert for_task(file, task) == {"a": {"x": 1, "y": {"z": 2}}, "phases": [1]}
    assert file["a"]["y"] == {"z": 2}
    assert for_task({"kd": (term := object())}, "t") == {"kd": term}


def test_a_file_is_refused_for_a_task_that_it_does_not_serve():
    file = {"a": {}, "tasks": ["t", "u"]}
    assert for_task(file, "t") == for_task(file, None) == {"a": {}}
    with pytest.raises(UserError, match="strategy=mine is for task=t or u, not for v; choose"):
        for_task(file, "v", "mine")
