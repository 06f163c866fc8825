"""Results as a run would write them, for the tests of everything that reads results."""

import csv

from distillab.core import files, result


def model(name, parameters, top1):
    return {"name": name, "top1": top1, "parameters": parameters, "multiply_adds": 40 * parameters, "latency_ms": 1.25,
            "latency_p95_ms": 2.0, "latency_batch_ms": 30.0, "size_bytes": 4 * parameters}  # fmt: skip


def made(strategy="kd", top1=0.95, baseline=0.93, teacher=0.97, **changes):
    student = changes.pop("student", ("resnet8", 78_042))
    gain, gap = result.gain_and_gap(top1, baseline, teacher)
    return {
        "schema": result.SCHEMA, "command": "train.py", "config": {"seed": 0}, "config_hash": "0123456789",
        "versions": {}, "seeds": {"seed": 0, "teacher": 0, "split": 0}, "strategy": strategy, "protocol": "standard",
        "name": "digits", "created": "2030-01-01T00:00:00+00:00", "status": "finished", "gain": gain,
        "gap_closed": gap, "seconds": {}, "data": {"name": "digits", "classes": 10, "test": 400},
        "teacher": None if teacher is None else model("resnet34", 21_300_000, teacher),
        "baseline": None if baseline is None else model(*student, baseline),
        "student": model(*student, top1), **changes,
    }  # fmt: skip


def put(runs, *results):
    for number, content in enumerate(results):
        files.write_json(runs / content["name"] / f"{number:010x}" / "result.json", content)


def rows_of(runs):
    with (runs / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))
