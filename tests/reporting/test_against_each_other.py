"""Methods against each other: on the seeds that both have, or on the test samples of one."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.made_results import edited, made
from helpers.made_seeds import HINT, KD, config, over_seeds
from scipy import stats

from distillab.reporting.comparison import against_each_other, compare, read_predictions


def test_methods_against_each_other_on_the_seeds_that_both_have():
    rows = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD[:4]), *over_seeds("none", [0] * 5)])
    (pair,) = against_each_other(sorted(rows, key=lambda row: -row.mean))
    known = stats.ttest_rel(HINT[:4], KD[:4])
    assert (pair.first.method, pair.second.method, pair.seeds) == ("hint", "kd", (0, 1, 2, 3))
    assert (pair.difference.mean, pair.difference.p) == pytest.approx(
        (np.mean(HINT[:4]) - np.mean(KD[:4]), known.pvalue)
    )
    assert pair.words.endswith("), shown") and pair.difference.p_holm == pair.difference.p
    three = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD), *over_seeds("dkd", KD[::-1])])
    pairs = against_each_other(three)
    assert [round(pair.difference.p_holm / pair.difference.p, 6) for pair in pairs[:2]].count(3) == 1, (
        "the smallest p, of three"
    )
    assert "no difference shown" in pairs[-1].words
    other = made("kd", seeds={"seed": 77}, config=config(77))
    assert against_each_other(compare([*over_seeds("hint", HINT), other])) == [], "no seed in common"
    assert against_each_other(compare([*over_seeds("hint", HINT), *over_seeds("kd", KD, protocol="paper")])) == []


def test_a_tuned_student_alone_is_compared_with_the_methods():
    tuned = over_seeds("none", [0.03] * 5, teacher=None, settings={"recipe": {"epochs": 8, "lr": 0.2}})
    hint = over_seeds("hint", HINT)

    def kept(results, role, where):
        places = [{role: {"training": {"checkpoints": f"{where} {seed}"}}} for seed in range(5)]
        return [edited(result, **place) for result, place in zip(results, places, strict=True)]

    hint = kept(hint, "baseline", "as it was")
    (pair,) = against_each_other(compare([*hint, *kept(tuned, "student", "tuned")]))
    assert (pair.first.method, pair.second.method) == ("none", "hint")
    assert pair.difference.mean == pytest.approx(0.03 - np.mean(HINT))
    same = kept(tuned, "student", "as it was")
    assert against_each_other(compare([*hint, *same])) == [], "the gains say it already"


def test_a_student_alone_with_other_labels_is_no_comparison():
    def alone(share):
        found = over_seeds("none", [0.03] * 5, teacher=None, settings={"data": {"labelled": share}, "lr": 0.2})
        return [edited(result, student={"training": {"checkpoints": "tuned"}}) for result in found]

    few = over_seeds("hint", HINT, settings={"data": {"labelled": 0.1}})
    assert against_each_other(compare([*few, *alone(1.0)])) == []
    assert len(against_each_other(compare([*few, *alone(0.1)]))) == 1


def test_one_seed_in_common_is_compared_on_the_test_samples(tmp_path):
    labels, right = np.arange(200) % 10, {"a": 190, "b": 120, "c": 118}
    results = [made(name, count / 200, 0.5, config_hash=name) for name, count in right.items()]
    for name, count in right.items():
        (tmp_path / "digits" / name).mkdir(parents=True)
        student = np.where(np.arange(200) < count, labels, labels + 1)
        np.savez(tmp_path / "digits" / name / "predictions.npz", labels=labels, student=student)

    def said():
        answers, left_out = read_predictions(results, tmp_path)
        return {
            (p.first.method, p.second.method): p.on_samples for p in against_each_other(compare(results), answers)
        }, left_out

    words, left_out = said()
    assert (
        "these two trained files differ by +35.0 points (95 % interval " in words["a", "b"]
        and "over 3 tests" in words["a", "b"]
    )
    assert words["b", "c"].startswith("no difference shown") and left_out == []
    np.savez(tmp_path / "digits" / "b" / "predictions.npz", labels=labels[::-1], student=labels)
    assert said()[0]["a", "b"] is None, "they were tested on other samples"


DAMAGED = {
    "empty": b"", "half": b"PK half", "text": {"labels": np.array(["a"]), "student": np.array(["a"])},
    "shorter": {"labels": np.arange(3), "student": np.arange(2)}, "another": {"labels": np.arange(3)},
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
    answers, left_out = read_predictions(results, tmp_path)
    assert answers == {} and len(left_out) == 1 and left_out[0].startswith(str(path))


def test_a_winner_among_equals_is_named_as_seldom_as_the_level_says():
    """Of the pairs of twelve equally good models, one or more is shown in at most 5 %; of the best against the rest in 12 %."""
    drawn, labels, repeats = np.random.default_rng(3), np.zeros(400, dtype=int), 100
    shown = 0
    for _ in range(repeats):
        answers = {f"{k}": (labels, one) for k, one in enumerate((drawn.random((12, 400)) > 0.8).astype(int))}
        results = [made(f"m{k}", (one == 0).mean(), 0.5, config_hash=k) for k, (_, one) in answers.items()]
        pairs = against_each_other(compare(results), answers)
        shown += any(not pair.on_samples.startswith("no difference shown") for pair in pairs)
    assert shown <= 8


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
    answers, left_out = read_predictions(results, tmp_path)
    assert answers == {} and [Path(line.split(": ")[0]).parent.name for line in left_out] == [
        "bomb",
        "header",
        "pipe",
        "folder",
    ]
