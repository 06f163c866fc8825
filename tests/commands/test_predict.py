"""What a run's networks tell of files: the student that was measured, its teacher beside it, and files that are odd."""

import csv
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from helpers import small_run
from omegaconf import OmegaConf
from PIL import Image

from distillab.commands.predict import predict
from distillab.commands.predicting import images, rows
from distillab.commands.predicting.images import Reader
from distillab.commands.predicting.inputs import find
from distillab.commands.predicting.networks import RunNetworks
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.core.output import quietly

WORDS = ("data.samples=200", "recipe.epochs=1", "teacher.recipe.epochs=1", "strategy=simkd")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run whose student ships more than itself, and beside it some images of its test split."""
    folder = tmp_path_factory.mktemp("runs")
    with small_run.unmeasured():
        small_run.run(folder, *WORDS)
    return folder


@pytest.fixture(scope="module")
def home(place):
    (found,) = (place / "runs" / "digits").glob("[0-9a-f]*")
    return found


@pytest.fixture(scope="module")
def networks(home):
    with quietly(True):
        yield RunNetworks(home, RunConfig.of(OmegaConf.to_container(OmegaConf.load(home / "config.yaml"))))


@pytest.fixture(scope="module")
def pictures(place, networks):
    """The first images of the test split as files, one of them in a folder further in."""
    data, folder = networks.data, place / "pictures"
    (folder / "more").mkdir(parents=True)
    for place_in_test, row in enumerate(data.rows["test"][:10]):
        name = f"{'more/' if place_in_test > 8 else ''}{place_in_test}.png"
        Image.fromarray(data.collection.images[row, 0].numpy()).save(folder / name)
    return folder


def asked(capsys, *words):
    predict([str(word) for word in words])
    told = capsys.readouterr()
    return list(csv.DictReader(told.out.splitlines())), told.err


def test_files_of_the_test_split_are_answered_as_when_the_run_measured_them(home, networks, pictures, capsys):
    found, said = asked(capsys, f"run={home}", pictures, "teacher=true", "top=3", "batch_size=4")
    assert [row["file"] for row in found] == [str(pictures / f"{n}.png") for n in range(9)] + [
        str(pictures / "more" / "9.png")
    ]
    assert list(found[0]) == images.columns(3, teacher=True) and "10 images predicted" in said
    task = networks._prepared.run.setting.task
    for network, mark in ((networks.student, ""), (networks.teacher, "teacher_")):
        logits, _ = task.predictions(network.model, networks.data, "test", "cpu")
        expected = logits.softmax(1).max(1)
        assert [int(row[f"{mark}class"]) for row in found] == expected.indices[:10].tolist()
        assert torch.allclose(
            torch.tensor([float(row[f"{mark}probability"]) for row in found]), expected.values[:10], atol=2e-6
        )
    assert [row["agree"] for row in found] == [str(row["class"] == row["teacher_class"]).lower() for row in found]
    assert {row["agree"] for row in found} == {"true", "false"}, "one epoch leaves some apart"
    second = task.predictions(networks.student.model, networks.data, "test", "cpu")[0].topk(2).indices[:10, 1]
    assert [int(row["class_2"]) for row in found] == second.tolist()


def test_the_student_alone_is_in_the_store_too(networks):
    task = networks._prepared.run.setting.task
    result = json.loads((networks.directory / "result.json").read_text())
    score = task.score(*task.predictions(networks.alone.model, networks.data, "test", "cpu"))
    assert score == pytest.approx(result["baseline"]["metrics"]["top1"])
    assert networks.alone.model.info.name == "resnet8" and networks.alone.role == "baseline"


def test_odd_files_are_named_and_skipped_and_a_file_is_written_whole(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # which the thin one exceeds once it is scaled
    folder = tmp_path / "odd"
    (folder / "empty").mkdir(parents=True)
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(np.arange(300 * 200 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 300, 3)).save(
        folder / "colour.jpg"
    )
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(grey).save(folder / '=1+1, "two"\nünd.png')
    Image.fromarray(np.zeros((1, 60_000), np.uint8)).save(folder / "thin.png")
    (folder / "broken.jpeg").write_bytes((folder / "colour.jpg").read_bytes()[:400])
    (folder / "empty.png").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    (folder / "loop").symlink_to(folder)
    out = tmp_path / "predictions.csv"
    predict([f"run={home}", str(folder), str(tmp_path / "gone.png"), f"out={out}"])
    with out.open(newline="") as file:
        found = [row["file"] for row in csv.DictReader(file)]
    assert found == [str(folder / name) for name in ('=1+1, "two"\nünd.png', "colour.jpg", "deep.png")]
    said = capsys.readouterr()
    assert not said.out and said.err.count("images of another size are scaled") == 1
    for name in ("broken.jpeg is not a readable image", "empty.png is not", "gone.png is not there", "thin"):
        assert name in said.err
    assert "data.root" not in said.err and "3 images predicted, 4 skipped" in said.err and "notes.txt" in said.err
    with pytest.raises(UserError, match="nothing was predicted: 2 skipped"):
        predict([f"run={home}", str(folder / "broken.jpeg"), str(folder / "empty.png"), f"out={tmp_path / 'none.csv'}"])
    with pytest.raises(UserError, match=r"no images to predict in .*empty"):
        predict([f"run={home}", str(folder / "empty")])
    capsys.readouterr()
    with pytest.raises(UserError, match=r"^nothing to predict: .*gone.png is not there$"):
        predict([f"run={home}", str(tmp_path / "gone.png")])
    assert not capsys.readouterr().err, "said once"
    assert not [*tmp_path.glob("none*"), *tmp_path.glob(".*.tmp")]


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "name files or folders"),
        (("x.png", "tops=3"), 'tops=3: distillab predict takes run=….*did you mean "top"'),
        (("x.png", "top=0"), "top must be a whole number from 1"),
        (("x.png", "top="), r"top= says nothing: write top=…, or leave it out"),
        (("x.png", "teacher=perhaps"), "teacher must be one of true, false"),
        (("x.png", "out=x.txt"), "out=x.txt must end in .csv or .jsonl"),
        (("x.png", "out=."), r"out=\. is a folder; name a file, e.g. out=\./predictions.csv"),
        (("x.png", "tokens=3"), "tokens=3 is for students of texts"),
        (
            ("x.png", "teacher=true", "paths.store=elsewhere"),
            r"resnet14 is not trained yet in elsewhere.*paths\.store=…",
        ),
    ],
)
def test_bad_words_are_one_line(home, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        predict([f"run={home}", *words])
    assert "\n" not in str(caught.value)


def test_the_student_of_another_run_is_refused(home, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(home, folder)
    content = bytearray((folder / "student.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "student.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"student.safetensors is not what the run wrote"):
        predict([f"run={folder}", "x.png"])
    (folder / "result.json").write_text("garbage")
    with pytest.raises(UserError, match=r"result.json cannot be used"):
        predict([f"run={folder}", "x.png"])
    (folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"x.png is not there"):
        predict([f"run={folder}", "x.png"])
    assert "nothing says whether student.safetensors is the run's own" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no folder of a run"):
        predict([f"run={tmp_path}", "x.png"])


def test_the_best_epoch_of_an_interrupted_run_answers_and_says_so(place, pictures, tmp_path, capsys):
    with small_run.unmeasured(), small_run.stopped_at(5, "kd"):
        words = ("data.samples=200", "recipe.epochs=4", "teacher.recipe.epochs=1", "baseline=false", "strategy=kd")
        small_run.run(tmp_path, *words, f"paths.store={place}/store")
    (home,) = (tmp_path / "runs" / "digits").glob("[0-9a-f]*")
    found, said = asked(capsys, f"run={home}", pictures / "0.png", "teacher=true")
    assert len(found) == 1 and "this is the student of epoch 1 of 4; the training was not finished" in said


def test_a_folder_run_reads_as_it_was_trained_and_another_size_is_told_once():
    model = namedtuple("Model", "example_inputs")(lambda size: {"pixels": torch.zeros(size, 3, 16, 16)})
    network = namedtuple("Network", "model")(model)

    def reader(**data):
        return Reader.of(network, namedtuple("Config", "data name")(data, "folder"))

    assert reader(image_size=16, resize=20) == Reader(3, 16, 20, False, "folder")
    assert reader(image_size=16) == Reader(3, 16, 16, False, "folder")
    assert reader() == Reader(3, 16, 16, True, "folder")
    # A config that does not fit the student, or whose crop is larger than the image, gives way to the student's size.
    assert reader(image_size=32, resize=40) == Reader(3, 16, 16, True, "folder")
    assert reader(image_size=16, resize=8).resize == reader(image_size=16, resize="x").resize == 16


def test_rows_can_be_read_back_whatever_a_name_holds(tmp_path):
    names = ["a,b", "line\nend", 'quo"te', "caf\udce9.png", "ü", "=2*3", "-1"]
    for kind in rows.FORMATS:
        with rows.writing(tmp_path / f"rows.{kind}", kind, ["file", "agree", "probability"]) as write:
            for name in names:
                write({"file": name, "agree": True, "probability": float("nan")})
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    shown = ["a,b", "line\nend", 'quo"te', "caf\\udce9.png", "ü", "'=2*3", "-1"]
    assert [row["file"] for row in read] == shown and {row["agree"] for row in read} == {"true"}
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["file"] for row in lines] == [*shown[:5], "=2*3", "-1"]
    assert lines[0]["probability"] is None and lines[0]["agree"] is True


def test_files_that_are_named_are_taken_whatever_their_ending(tmp_path):
    (tmp_path / "image").write_bytes(b"")
    assert find([str(tmp_path / "image")], (".png",)).files == [str(tmp_path / "image")]
    assert find([str(tmp_path)], (".png",)).others == [str(tmp_path / "image")]
