"""Results as a run would write them, for the tests of everything that reads results."""

import csv
from collections.abc import Mapping

from distillab.core import files
from distillab.core.exports import ExportedFile
from distillab.core.result import Result, gain_and_gap
from distillab.core.result_parts import Primary


def model(name, parameters, top1, validation=None):
    return {
        "name": name,
        "metrics": {"top1": top1},
        "validation": {} if validation is None else {"top1": validation},
        "efficiency": {"parameters": parameters, "multiply_adds": 40 * parameters, "latency_ms": 1.25,
                       "latency_p95_ms": 2.0, "latency_batch_ms": 30.0, "size_bytes": 4 * parameters},
    }  # fmt: skip


def made(strategy="kd", top1=0.95, baseline=0.93, teacher=0.97, **changes):
    """A result by the figures of its three networks; `changes` are fields of it, dicts in place of its parts.

    `validations` are those of the student and of the baseline.
    """
    student, validations = changes.pop("student", ("resnet8", 78_042)), changes.pop("validations", (None, None))
    primary = {"name": "top1", "value": top1}
    gain, gap = gain_and_gap(top1, baseline, teacher, Primary(**primary))
    return Result.model_validate({
        "task": "image_classification", "command": "train.py", "config": {"seed": 0}, "config_hash": "0123456789",
        "seeds": {"seed": 0, "teacher": 0, "split": 0}, "strategy": strategy, "protocol": "standard",
        "name": "digits", "created": "2030-01-01T00:00:00+00:00", "gain": gain, "gap_closed": gap,
        "data": {"name": "digits", "classes": 10, "test": 400}, "primary": primary,
        "teacher": None if teacher is None else model("resnet34", 21_300_000, teacher),
        "baseline": None if baseline is None else model(*student, baseline, validations[1]),
        "student": model(*student, top1, validations[0]), **changes,
    })  # fmt: skip


def exported_file(name="student.onnx", kind="onnx", **changes):
    """The proof of an exported file."""
    return ExportedFile(**{
        "format": kind, "file": name, "size_bytes": 320_000, "runtime": "onnxruntime 1.32.0", "metrics": {"top1": 0.94},
        "difference": 2e-6, "same_answers": 0.995, "latency_ms": 0.5, "latency_spread": 0.01, "threads": 1, **changes,
    })  # fmt: skip


def merged(old, new):
    """Nested dicts, the new values over the old."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def edited(result, **changes):
    """The result with other values, as deep in it as they are given: `student={"metrics": {"top5": 1.0}}`."""
    return Result.model_validate(merged(result.model_dump(), changes))


def put(runs, *results):
    for number, content in enumerate(results):
        files.write_json(runs / content.name / f"{number:010x}" / "result.json", content.as_json())


def rows_of(runs):
    with (runs / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))
