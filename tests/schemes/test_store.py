"""What the store gives back: only what the same code made, and only files that are as they were written."""

import importlib
import sys

import pytest
from helpers.small_run import run

from distillab.core.own_code import source
from distillab.schemes.store import Store

TINY = ("student=custom", "student._target_=my_net.make", "teacher=resnet8", "logger=none", "data.samples=64")
TINY += ("recipe.epochs=1", "teacher.recipe.epochs=1", "equal_compute=false")
SOURCE = """
from torch import nn
from distillab.data.images.sources import Digits
from distillab.strategies.kd import KD
class Data(Digits): pass
class Term(KD): pass
def make(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))
"""


@pytest.mark.parametrize("name", ["model.safetensors", "test.npz", "record.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_file_of_the_store_is_named_and_made_again(name, how, tmp_path, capsys):
    made = []

    def make(folder):
        made.append(folder)
        for file in ("model.safetensors", "test.npz"):
            (folder / file).write_bytes(b"content of " + file.encode())
        return {"scores": {"test": float("nan"), "validation": 0.1 + 0.2}}

    def once():
        return Store(tmp_path).once("networks", "../net/of\nmine", {"seed": 0}, make)

    folder, *_ = once()
    assert folder.parent == tmp_path / "networks" and once()[2]
    path = folder / name
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:9] if how == "cut" else whole.replace(b"te", b"ue", 1))
    assert not once()[2] and len(made) == 2 and path.read_bytes() == whole and once()[2]
    told = capsys.readouterr().err
    assert (name, how) == (
        "record.json",
        "gone",
    ) or told == f"warning: store: {path} is damaged or gone; it is made again\n"


def test_a_record_of_an_older_version_is_taken_as_it_is(tmp_path):
    make = lambda folder: {"scores": {}}  # noqa: E731
    folder, *_ = Store(tmp_path).once("networks", "net", {}, make)
    (folder / "record.json").write_text('{"scores": {"test": 0.5}}')
    assert Store(tmp_path).once("networks", "net", {}, make) == (folder, {"scores": {"test": 0.5}}, True)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes `my_net.py`, as a new process would find it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "my_net.py").write_text(text)
        sys.modules.pop("my_net", None)
        importlib.invalidate_caches()
        source.cache_clear()

    yield write
    sys.modules.pop("my_net", None)
    source.cache_clear()


def test_a_network_of_changed_code_is_trained_again_and_its_finished_run_is_not_shown(written, tmp_path, unmeasured):
    written(SOURCE)
    first = run(tmp_path, base=TINY)
    written(SOURCE.replace("ReLU", "Sigmoid"))
    other = run(tmp_path, base=TINY)
    assert other.config_hash != first.config_hash and not other.baseline.training.reused
    assert other.baseline.metrics != first.baseline.metrics and other.versions["code"] != first.versions["code"]
    assert other.teacher.training.reused, "installed code is not concerned"
    written(SOURCE)
    assert run(tmp_path, base=TINY).created == first.created


def test_the_code_of_terms_data_and_teachers_counts_too(written, tmp_path, unmeasured):
    """Each alone: a term of a file, data of a file, a teacher's factory."""
    own = {"strategy.kd": "Term", "data": "Data", "teacher": "make"}
    for key, name in own.items():
        words = [word for word in TINY if not word.startswith("student")] + ["student=resnet8", "baseline=false"]
        words += [f"{key}._target_=my_net.{name}", f"name={name}"]
        if key == "teacher":
            words = [word.replace("teacher=resnet8", "teacher=custom") for word in words]
        written(SOURCE)
        first = run(tmp_path, base=words)
        written(SOURCE + "# changed\n")
        other = run(tmp_path, base=words)
        assert other.config_hash != first.config_hash, name
        assert other.teacher.training.reused == (name == "Term"), name
        assert other.student.training.teacher_samples_replayed == (64 if name == "Term" else 0), name
