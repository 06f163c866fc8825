"""Methods against each other, on the runs that both have; the answers kept of each test sample, damaged ones too."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.made_results import made
from helpers.made_seeds import BASELINE, HINT, KD, config, over_seeds

from distillab.evaluation.families import Contrast, family
from distillab.reporting.answers import read_answers
from distillab.reporting.comparison import against_each_other, compare, tables
from distillab.reporting.sections import pairs


def test_two_methods_are_compared_on_the_seeds_that_both_have():
    rows = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD[:4]), *over_seeds("none", [0] * 5)])
    (pair,) = against_each_other(rows)
    assert (pair.first.method, pair.second.method, pair.seeds) == ("hint", "kd", (0, 1, 2, 3))
    own, other = (np.add(BASELINE[:4], gains[:4]) for gains in (HINT, KD))
    (known,) = family([Contrast(own, other, None, "resnet8", pair.seeds, ("hint", "kd"))], 0.01)
    assert pair.finding == known and known.gain == pytest.approx(np.mean(HINT[:4]) - np.mean(KD[:4]))
    far = made("kd", seeds={"seed": 77}, config=config(77))
    assert against_each_other(compare([*over_seeds("hint", HINT), far])) == [], "no seed in common"
    apart = tables(compare([*over_seeds("hint", HINT), *over_seeds("kd", KD, protocol="paper")])).values()
    assert [against_each_other(members) for members in apart] == [[], []]


def test_all_pairs_of_a_table_are_one_family_and_the_better_validation_comes_first():
    large = ("resnet20", 272_474)
    three = [*over_seeds("hint", HINT), *over_seeds("kd", KD, ahead=0.05), *over_seeds("dkd", KD[::-1])]
    two = [run for name, gains in (("hint", HINT), ("kd", KD)) for run in over_seeds(name, gains, student=large)]
    found = against_each_other(compare([*three, *two]))
    assert [pair.finding.size for pair in found] == [4, 4, 4, 4]
    firsts = [(pair.first.method, pair.second.method) for pair in found if pair.first.student == "resnet8"]
    assert firsts == [("kd", "hint"), ("kd", "dkd"), ("hint", "dkd")]


def test_a_table_of_pairs_says_what_each_shows():
    results = [*over_seeds("hint", HINT), *over_seeds("kd", KD), *over_seeds("dkd", KD[:1])]
    (view,) = pairs(compare(results)).views
    shown = [dict(zip(view.tables[0].headings, line, strict=True)) for line in view.tables[0].texts]
    assert [(line["method"], line["against"], line["outcome"]) for line in shown] == [
        ("hint", "kd", "shown"), ("hint", "dkd", "one run"), ("kd", "dkd", "one run"),
    ]  # fmt: skip
    assert shown[0]["difference"] == "+1.16" and " to " in shown[0]["95 % interval"]
    equal = [run for name, gain in (("a", 0.02), ("b", 0.01)) for run in over_seeds(name, [gain] * 3)]
    assert pairs(compare(equal)).views[0].tables[0].texts[0][-1] == "no spread between the runs"


def test_a_pair_is_as_likely_better_as_worse_where_it_does_not_differ():
    """Also beside a method that fails, which made all pairs of a student look better."""
    fails = over_seeds("attention", np.subtract(HINT, 0.5))
    found = against_each_other(compare([*over_seeds("hint", HINT), *over_seeds("kd", HINT[::-1]), *fails]))
    (equal,) = (pair for pair in found if "attention" not in (pair.first.method, pair.second.method))
    assert equal.finding.gain == pytest.approx(0) and equal.finding.chance_better == pytest.approx(0.5, abs=1e-3)


def test_a_student_alone_with_other_labels_is_another_table():
    few = over_seeds("hint", HINT, settings={"data": {"labelled": 0.1}})
    alone = over_seeds("none", [0.03] * 5, settings={"data": {"labelled": 1.0}, "lr": 0.2})
    places = {(row.method, row.place.labels) for row in compare([*few, *alone])}
    assert places == {("hint", "data.labelled=0.1"), ("none", "data.labelled=0.1"), ("none", "")}


def test_one_seed_in_common_is_compared_on_the_test_samples(tmp_path):
    labels, right = np.arange(400) % 10, {"a": 390, "b": 250, "c": 248}
    results = [made(name, count / 400, 0.5, config_hash=name) for name, count in right.items()]

    def keep(name, count, order=1):
        (tmp_path / "digits" / name).mkdir(parents=True, exist_ok=True)
        student = np.where(np.arange(400) < count, labels, labels + 1)[::order]
        np.savez(tmp_path / "digits" / name / "predictions.npz", labels=labels[::order], student=student)

    def found():
        _, answers, left_out = read_answers(results, tmp_path)
        assert left_out == []
        return {(p.first.method, p.second.method): p.finding for p in against_each_other(compare(results), answers)}

    for name, count in right.items():
        keep(name, count)
    assert found()["a", "b"].low > 0.25 and found()["a", "b"].speaks_of == ("samples",)
    assert not found()["b", "c"].shown and found()["b", "c"].size == 3
    (view,) = pairs(compare(results), read_answers(results, tmp_path)[1]).views
    outcomes = [dict(zip(view.tables[0].headings, line, strict=True))["outcome"] for line in view.tables[0].texts]
    assert sorted(outcomes) == ["no difference shown for these two files", *["shown for these two files"] * 2]


DAMAGED = {
    "empty": b"", "half": b"PK half", "text": {"labels": np.array(["a"]), "student": np.array(["a"])},
    "shorter": {"labels": np.arange(3), "student": np.arange(2)},
    "no samples": {"labels": np.arange(0), "student": np.arange(0)},
}  # fmt: skip


@pytest.mark.parametrize("damage", [*DAMAGED, "flipped"])
def test_damaged_answers_are_named_and_the_rest_is_shown(tmp_path, damage):
    path = tmp_path / "digits" / "0123456789" / "predictions.npz"
    path.parent.mkdir(parents=True)
    if damage == "flipped":
        np.savez_compressed(path, labels=np.arange(5000) % 10, student=np.arange(5000) % 7)
        content = bytearray(path.read_bytes())
        content[200:240] = bytes(40)
        path.write_bytes(bytes(content))
    elif isinstance(DAMAGED[damage], bytes):
        path.write_bytes(DAMAGED[damage])
    else:
        np.savez(path, **DAMAGED[damage])
    results = [made("kd", config_hash="0123456789"), made("hint", config_hash="absent")]
    _, answers, left_out = read_answers(results, tmp_path)
    assert not answers.get("0123456789") and len(left_out) == 1 and left_out[0].startswith(str(path))


def test_answers_that_would_fill_the_memory_or_block_are_left_out(tmp_path):
    """More samples than the test has, a header that claims a terabyte, a pipe, a folder, a name too long for a file."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<i4", "fortran_order": False, "shape": (2**38,)})
    results = [made(name, config_hash=name) for name in ("bomb", "header", "pipe", "folder", "l" * 300)]
    for result in results[:-1]:
        (tmp_path / "digits" / result.config_hash).mkdir(parents=True)
    at = lambda name: tmp_path / "digits" / name / "predictions.npz"  # noqa: E731
    np.savez_compressed(at("bomb"), **dict.fromkeys(("labels", "student"), np.zeros(10**6, np.int32)))
    with zipfile.ZipFile(at("header"), "w") as archive:
        for name in ("labels", "student"):
            archive.writestr(f"{name}.npy", head.getvalue())
    os.mkfifo(at("pipe"))
    at("folder").mkdir()
    _, answers, left_out = read_answers(results, tmp_path)
    assert not any(answers.values()) and [Path(line.split(": ")[0]).parent.name for line in left_out] == [
        "bomb",
        "header",
        "pipe",
        "folder",
        "l" * 300,
    ]


def test_answers_lie_beside_their_result_whatever_its_folder_is_called(tmp_path):
    run = made("kd", config_hash="0123456789")
    folder = tmp_path / "mine" / "renamed"
    folder.mkdir(parents=True)
    labels = np.arange(400) % 10
    np.savez(folder / "predictions.npz", labels=labels, student=np.where(np.arange(400) < 380, labels, labels + 1))
    _, answers, left_out = read_answers([run], tmp_path, {folder / "result.json": run})
    assert left_out == [] and answers[run.config_hash]["student"].mean() == pytest.approx(0.95)
