"""Exports of whole runs: with the run, of a finished one, of an interrupted one, and to the hub. A format of torch alone stands in."""

import json
import shutil

import pytest
import torch
from helpers import small_run
from helpers.data_checks import write_images

from distillab.commands import exporting, hub
from distillab.commands.export import export
from distillab.core.errors import UserError
from distillab.core.run_identity import NOT_HASHED
from distillab.evaluation import efficiency
from distillab.export.exporter import Exporter, FromPixels
from distillab.export.formats import EXPORTERS
from distillab.reporting.model_card import model_card

WORDS = ("data.samples=200", "baseline=false", "recipe.epochs=2", "teacher.recipe.epochs=1", "doctor=false")


class StandIn(Exporter):
    """The network itself, kept in memory; `error` is added to its logits."""

    suffix = ".bin"
    runtime = "torch 0.0"
    error = 0.0

    def __init__(self, name):
        self.name, self.tried, self.images = name, [], []

    def convert(self, shipped):
        self.tried.append(shipped)

    def export(self, shipped, path):
        self.images = list(shipped.calibration())
        self.notes, self.network = shipped.about, FromPixels(shipped.model)
        path.write_bytes(b"x" * 1000)

    @torch.no_grad()
    def answer(self, pixels):
        assert pixels.dtype == torch.uint8
        return self.network(pixels) + self.error

    def load(self, path):
        assert path.read_bytes() == b"x" * 1000
        return self.answer


@pytest.fixture
def onnx(monkeypatch):
    made = StandIn("onnx")
    monkeypatch.setitem(EXPORTERS, "onnx", made)
    monkeypatch.setattr(efficiency, "steady_timings", lambda call, *_: (call(), ([0.002], 0.0))[1])
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a finished run, without further files."""
    folder = tmp_path_factory.mktemp("runs")
    with small_run.unmeasured():
        small_run.run(folder, *WORDS)
    return folder


def again(folder, *words):
    with small_run.unmeasured():
        return small_run.run(folder, *WORDS, *words)


@pytest.fixture
def elsewhere(place, tmp_path):
    """An empty folder for runs, and the words that take the teacher from the store of the finished run."""
    return tmp_path, f"paths.store={place}/store"


def home(folder):
    (found,) = (folder / "runs" / "digits").glob("[0-9a-f]*")
    return found


def result(folder):
    return json.loads((home(folder) / "result.json").read_text())


def test_a_finished_run_is_exported_and_not_trained_again(place, onnx, capsys):
    before = result(place)
    assert "exports" not in before
    made = again(place, "export=[onnx]", "license=mit")
    after = result(place)
    assert "was finished on" in capsys.readouterr().out and not onnx.tried
    (file,) = after["exports"]
    assert file["file"] == "student.bin" and (home(place) / "student.bin").stat().st_size == file["size_bytes"] == 1000
    assert file["metrics"]["top1"] == after["primary"]["value"] and file["same_answers"] == 1
    assert file["difference"] < 1e-5 and file["latency_ms"] == 2 and file["runtime"] == "torch 0.0"
    unchanged = before.keys() - {"config"}
    assert {key: after[key] for key in unchanged} == {key: before[key] for key in unchanged}
    assert onnx.notes["epoch"] == f"{made.student.training.epoch} of 2" and onnx.notes["data"] == "digits"
    card = (home(place) / "README.md").read_text()
    assert "| student.bin |" in card and "license: mit" in card and "**Licence:** mit." in card

    onnx.network = None
    again(place, "export=[onnx]")  # it is there
    assert onnx.network is None
    (home(place) / "student.bin").unlink()
    export([f"run={home(place)}", "format=onnx"])
    assert onnx.network is not None and (home(place) / "student.bin").exists()
    assert "100 %" in capsys.readouterr().out
    for content in (b"", bytes(1000)):  # cut off, and another of the same size
        onnx.network = None
        (home(place) / "student.bin").write_bytes(content)
        export([f"run={home(place)}", "format=onnx"])
        assert onnx.network is not None and (home(place) / "student.bin").read_bytes() == b"x" * 1000


def test_what_is_not_as_the_run_left_it_is_not_shown_as_proved(place, tmp_path, onnx, capsys):
    export([f"run={home(place)}", "format=onnx"])
    folder = tmp_path / "copy"
    shutil.copytree(home(place), folder)
    told = (folder / "result.json").read_text()
    (folder / "result.json").write_text(told[:3000])
    with pytest.raises(UserError, match=r"result.json cannot be used: it cannot be read .* makes the run again"):
        export([f"run={folder}", "format=onnx"])
    (folder / "result.json").write_text(told)
    (folder / "student.safetensors").unlink()
    with pytest.raises(UserError, match=r"student.safetensors is not there any more; rerun=true"):
        export([f"run={folder}", "format=onnx"])
    kept = (home(place) / "student.safetensors").read_bytes()
    try:
        (home(place) / "student.safetensors").write_bytes(b"another")
        again(place)
        assert "student.safetensors is not what the run wrote" in capsys.readouterr().err
    finally:
        (home(place) / "student.safetensors").write_bytes(kept)


def test_data_that_were_moved_are_named(place, tmp_path, onnx):
    root = write_images(tmp_path / "photos", {"a": 30, "b": 30}, size=(8, 8), mode="L")
    words = ("data=folder", f"data.root={root}", "data.samples=null", "data.workers=0", f"paths.store={tmp_path}/store")
    words += ("recipe.batch_size=8", "teacher.recipe.batch_size=8")
    again(tmp_path, *words)
    (folder,) = (tmp_path / "runs" / "photos").glob("[0-9a-f]*")
    root.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="photos is no folder"):
        export([f"run={folder}", "format=onnx"])
    export([f"run={folder}", "format=onnx", f"data.root={tmp_path / 'moved'}"])
    assert (folder / "student.bin").exists()


def test_calibration_sees_training_images_alone(place, onnx, monkeypatch):
    monkeypatch.setattr(exporting, "CALIBRATION", 60)
    (home(place) / "student.bin").unlink(missing_ok=True)
    again(place, "export=[onnx]")
    data = onnx_data(place)
    training = {tuple(image.flatten().tolist()) for image in data.collection.images[data.rows["train"]]}
    test = {tuple(image.flatten().tolist()) for image in data.collection.images[data.rows["test"]]}
    seen = [tuple(image.flatten().tolist()) for batch in onnx.images for image in batch]
    assert len(seen) == 60 and set(seen) <= training and not set(seen) & (test - training)


def onnx_data(place):
    from distillab.commands import steps
    from distillab.commands.invocation import parse

    config = parse(small_run.composed(place, *WORDS))
    data = steps.check(config).data
    data.prepare()
    return data


def test_formats_have_no_part_in_the_hash():
    assert {"export", "push_to_hub", "license"} <= set(NOT_HASHED)


def test_a_run_tries_its_formats_before_it_trains_and_keeps_its_result_where_a_file_fails(elsewhere, onnx, monkeypatch):
    tmp_path, store = elsewhere
    onnx.error = 1.0
    with pytest.raises(UserError, match=r"student.bin is not the student that was measured, and is not kept"):
        again(tmp_path, store, "export=[onnx]")
    assert len(onnx.tried) == 1 and onnx.images
    assert result(tmp_path)["status"] == "finished" and "exports" not in result(tmp_path)
    assert not list(home(tmp_path).glob("*.bin")) and not list(home(tmp_path).glob(".*.tmp"))

    def refuse(shipped):
        raise UserError("no such operation")

    monkeypatch.setattr(onnx, "convert", refuse)
    with pytest.raises(UserError, match="no such operation"):
        again(tmp_path / "other", "export=[onnx]")
    assert not list((tmp_path / "other").rglob("best.ckpt"))  # not even of a teacher


def test_weights_that_were_not_measured_are_refused(place, tmp_path, onnx):
    folder = tmp_path / "copy"
    shutil.copytree(home(place), folder)
    (folder / "student.bin").unlink(missing_ok=True)
    file = folder / "student.safetensors"
    content = bytearray(file.read_bytes())
    content[-4000:] = bytes(4000)  # other weights
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"student.safetensors is not what the run wrote.*rerun=true"):
        export([f"run={folder}", "format=onnx"])
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"weights": {}}))  # of an earlier version
    with pytest.raises(UserError, match=r"student.safetensors has .* on test here, and .* in result.json.*rerun=true"):
        export([f"run={folder}", "format=onnx"])
    assert not list(folder.glob("*.bin"))


def test_an_interrupted_run_is_exported_from_its_best_epoch(elsewhere, onnx, capsys):
    tmp_path, store = elsewhere
    with small_run.unmeasured(), small_run.stopped_at(5):  # in the second epoch of four batches
        small_run.run(tmp_path, *WORDS, store)
    folder = home(tmp_path)
    assert not (folder / "result.json").exists() and (folder / "checkpoints" / "best.ckpt").exists()
    capsys.readouterr()
    export([f"run={folder}", "format=[onnx]"])
    said = " ".join(capsys.readouterr().out.split())  # a long path breaks a title
    assert "is not finished: this is the student of epoch 1 of 2" in said and "proved on validation" in said
    assert (folder / "epoch-1.bin").exists() and not (folder / "student.bin").exists()
    assert onnx.notes["epoch"] == "1 of 2; the training was not finished"
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    own = onnx.network.model.net.state_dict()
    assert all(torch.equal(value, kept[f"student.net.{name}"]) for name, value in own.items()) and own
    with pytest.raises(UserError, match="not finished: its student has no model card yet"):
        export([f"run={folder}", "push_to_hub=me/it"])
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"best.ckpt cannot be read as a checkpoint"):
        export([f"run={folder}", "format=onnx"])
    (folder / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(UserError, match="there is no student yet"):
        export([f"run={folder}", "format=onnx"])


def test_no_format_of_a_run_that_is_there(place):
    with pytest.raises(UserError, match="format is missing: name one or several"):
        export([f"run={home(place)}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("format=onnx",), "run is missing"),
        (("run=absent", "format=onnx"), r"run: absent is no folder of a run \(config.yaml\)"),
        (("run=absent",), "run: absent is no folder of a run"),
        (("run=x", "format=onxn"), 'format takes onnx, torch_export, int8, got "onxn"; did you mean "onnx"?'),
        (("run=x", "fromat=onnx"), 'fromat=onnx: distillab export takes run=….*did you mean "format"'),
        (("run=x", "push_to_hub=it"), "push_to_hub names a repository on the hub, push_to_hub=owner/name, or null"),
        (("run=x", "format=onnx", "trust=perhaps"), "trust must be one of true, false"),
    ],
)
def test_words_of_the_command(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        export(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export=[onnx,onxn]",), r'export takes onnx, torch_export, int8, got "onxn"; did you mean "onnx"\?'),
        (
            ("data=text", "data.path=x", "export=[onnx]"),
            "onnx: for students of images; one of task=causal_lm is written as",
        ),
        (("push_to_hub=it",), "push_to_hub=owner/name"),
    ],
)
def test_formats_are_refused_before_anything_is_trained(words, said, tmp_path):
    base = () if "data=text" in words else small_run.SMALL
    with pytest.raises(UserError, match=said):
        small_run.run(tmp_path, *words, base=base)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_classes_that_only_a_file_names_are_not_called(place, tmp_path):
    config = (home(place) / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(
        config.replace("distillab.models.zoo.cifar_resnet.CifarResNet", "evil.Net", 1)
    )
    with pytest.raises(UserError, match=r"names evil.Net, which is not called as only a file names it.*trust=true"):
        export([f"run={tmp_path}", "format=onnx"])
    (tmp_path / "config.yaml").write_text("[")
    with pytest.raises(UserError, match="cannot be read as the config of a run"):
        export([f"run={tmp_path}", "format=onnx"])


class Hub:
    """What the hub's library would be asked."""

    def __init__(self, refuses=None):
        self.asked, self.refuses = [], refuses

    def __call__(self):
        return self

    def create_repo(self, name, **how):
        if self.refuses:
            raise self.refuses
        self.asked.append((name, how))

    def upload_folder(self, **how):
        self.asked.append(how)


@pytest.fixture
def huggingface(monkeypatch):
    library = pytest.importorskip("huggingface_hub")

    def stand_in(refuses=None):
        monkeypatch.setattr(library, "HfApi", made := Hub(refuses))
        return made

    return stand_in


def test_card_and_student_are_uploaded_and_nothing_that_names_a_folder(place, huggingface, onnx, capsys):
    asked = huggingface().asked
    (home(place) / "student.bin").unlink(missing_ok=True)
    again(place, "export=[onnx]", "push_to_hub=me/it")
    (name, how), sent = asked
    assert name == "me/it" and how == {"private": True, "exist_ok": True}
    assert sent["repo_id"] == "me/it" and sent["folder_path"] == home(place)
    assert sent["allow_patterns"] == ["README.md", "student.safetensors", "student.bin", "student/*"]
    assert "huggingface.co/me/it" in capsys.readouterr().out
    assert str(place) not in (home(place) / "README.md").read_text()

    huggingface(refuses=OSError("401 Client Error.\nUnauthorized"))
    with pytest.raises(
        UserError, match=r"push_to_hub=me/it: the hub refuses \(401 Client Error.*hf auth login"
    ) as caught:
        export([f"run={home(place)}", "push_to_hub=me/it"])
    assert "\n" not in str(caught.value)


def test_a_missing_library_of_the_hub_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "distillab\[export\]", or push_to_hub=null'):
        small_run.run(tmp_path, "push_to_hub=me/it")


def test_a_card_without_a_run_folder_has_no_paths(place):
    from distillab.core.result_reader import read

    found = read(home(place) / "result.json")[0]
    words = ["teacher.checkpoint=/home/me/secret/teacher.pth", "data.root=~me/pictures", "student=resnet8"]
    config = found.config | {"teacher": found.config["teacher"] | {"checkpoint": "/home/me/secret/teacher.pth"}}
    card = model_card(found.changed(overrides=words, config=config))
    assert "secret" not in card and "/home" not in card and "~me" not in card
    assert "teacher.checkpoint=…/teacher.pth" in card and "(weights of teacher.pth)" in card
