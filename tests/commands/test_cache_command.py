"""The teacher cache of images as a command: outputs that are computed again, and one file for another machine."""

import hashlib
import json
import os
import re
import shutil
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from helpers import small_run
from helpers.data_checks import write_images
from helpers.five_classes import save_five_classes
from safetensors.torch import load_file, save, save_file

from distillab.commands.cache import cache
from distillab.core.errors import UserError
from distillab.core.weights import add_weights
from distillab.data.images import sources
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.teachers import manifest
from distillab.teachers.layout import Layout
from distillab.teachers.shards import HEAD, View
from distillab.training import linear_probe

DIGITS = ("data.samples=300", "baseline=false", "cache.dtype=float32")


class Place:
    """A folder with a store that a run has filled, and the words of its commands."""

    def __init__(self, folder, *words):
        self.folder, self.words = folder, (*small_run.SMALL, *DIGITS, *words, f"paths.runs={folder}/runs")
        with small_run.unmeasured():
            self.result = self.trained("paths.store=" + str(folder / "here"))
        (self.teacher,) = (folder / "here" / "networks").glob("*/model.safetensors")

    def trained(self, *words):
        return small_run.run(self.folder, *words, base=self.words)

    def cache(self, action, *words, store="here"):
        """A command; in another store the teacher is named by its file."""
        here = () if store == "here" else (f"teacher.checkpoint={self.teacher}",)
        cache([action, *self.words, f"paths.store={self.folder}/{store}", *here, *words])

    def shards(self, store="here"):
        root = self.folder / store / "cache"
        return {str(path.relative_to(root)): path for path in sorted(root.rglob("*.shard"))}

    def exported(self):
        out = self.folder / "cache.zip"
        if not out.exists():
            self.cache("export", f"out={out}")
        return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("digits"))


def refused(action, *parts):
    with pytest.raises(UserError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message


def test_check_computes_a_share_again_and_finds_what_was_changed(place, tmp_path, capsys):
    for share, count in ((0.1, 60), (1.0, 600), (1e-6, 2)):  # one sample of a view at least
        capsys.readouterr()
        place.cache("check", f"share={share}")
        assert f"{count} of 600 outputs in 2 views" in capsys.readouterr().out
    shutil.copytree(place.folder / "here", tmp_path / "here")
    changed = (f"paths.store={tmp_path}/here", "share=1.0")
    (folder, *_) = {path.parent for path in (tmp_path / "here" / "cache").rglob("*.shard")}
    (file,) = folder.glob("*.shard")
    key = json.loads(file.read_bytes()[:HEAD].split(b"\n")[1])["key"]
    view = View(folder, Layout(10, dtype="float32"), 300, key)
    records = view.read(np.arange(300)).copy()
    records["logits"][7, 3] += 0.5
    file.unlink()
    view = View(folder, Layout(10, dtype="float32"), 300, key)
    view.add(np.arange(300), records)
    view.publish()
    refused(lambda: place.cache("check", *changed), "differs from its teacher", "tolerance=0.002", tmp_path)
    said = capsys.readouterr().out
    assert "the largest difference is 0.5" in said and f"logits of sample 7 in view {int(key.split('/')[1])}-0" in said
    place.cache("check", *changed, "tolerance=1")

    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    refused(lambda: place.cache("check", *changed), file, "cannot be read whole")


def test_an_exported_cache_teaches_elsewhere_as_it_does_here(place, capsys):
    file = place.exported()
    assert "600 outputs in 2 views" in capsys.readouterr().out
    assert all(name.endswith((".json", ".shard")) for name in ZipFile(file).namelist())  # and nothing of pickle
    place.cache("import", f"archive={file}", store="there")
    assert "600 outputs in 2 views filed in" in capsys.readouterr().out
    here, there = (
        {name: path.read_bytes() for name, path in place.shards(store).items()} for store in ("here", "there")
    )
    assert here == there and len(here) == 2 and not list((place.folder / "there").glob(".import*"))
    place.cache("import", f"archive={file}", store="there")
    assert "0 outputs in 2 views filed" in (said := capsys.readouterr().out) and "600 were there before\n" in said
    place.cache("check", "share=1.0", store="there")
    with small_run.unmeasured():
        own = (f"paths.store={place.folder}/there", f"teacher.checkpoint={place.teacher}", "cache.mode=require")
        found = place.trained(*own)
    curves = [[{**epoch, "seconds": 0} for epoch in run.student.training.curves] for run in (found, place.result)]
    assert curves[0] == curves[1] and len(curves[0]) == 2
    assert found.cache["computed"] == 0 and found.cache["key"] == place.result.cache["key"]


def test_records_that_are_there_stay_and_others_are_counted(place, tmp_path, capsys):
    file = place.exported()
    name, shard = next(iter(place.shards().items()))
    key = json.loads(shard.read_bytes()[:HEAD].split(b"\n")[1])["key"]
    mine = View((tmp_path / "store" / "cache" / name).parent, Layout(10, dtype="float32"), 300, key)
    mine.add(np.arange(20), np.ones(20, mine.layout.record))
    mine.publish()
    store = (f"paths.store={tmp_path}/store", f"teacher.checkpoint={place.teacher}")
    place.cache("import", f"archive={file}", *store)
    assert "580 outputs in 2 views" in (said := capsys.readouterr().out)
    assert "20 were there before (20 of them with other numbers, which stay)" in said
    again = View(mine.folder, mine.layout, 300, key)
    assert again.present.all() and (again.read(np.arange(20))["logits"] == 1).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.view_seed=1",), ("data.view_seed=0 there and 1 here",)),
        (("data.samples=299",), ("data.samples=300 there and 299 here",)),
        (("data.augment.crop=1",), ("data.augment.crop=0 there and 1 here",)),
        (("cache.dtype=float16",), ("cache.dtype=float32 there and float16 here",)),
        (("cache.top_k=3",), ("cache.top_k=null there and 3 here",)),
        (("strategy=rkd",), ("records hold other outputs",)),
        (("recipe.precision=bf16-mixed",), ("recipe.precision differs: 32-true there and bf16-mixed here",)),
        (
            ("teacher.mean=[0.1]", "teacher.std=[0.2]"),
            ("it is of another teacher, with inputs that are normalised",),
        ),
        (
            ("teacher=resnet20", "teacher.checkpoint=null", "teacher.pretrained=false"),
            ("another teacher (resnet14 there, resnet20 here), with other modules",),
        ),
        (
            ("teacher=resnet14", "teacher.checkpoint=null", "teacher.pretrained=false", "teacher.seed=1"),
            ("resnet14 is not trained yet",),
        ),
        (("cache.limit_gb=1e-9",), ("find no room",)),
    ],
)
def test_a_cache_of_something_else_is_refused(place, words, said):
    refused(lambda: place.cache("import", f"archive={place.exported()}", *words, store="wrong"), *said)
    assert not place.shards("wrong")


def test_other_weights_are_another_teacher(place, tmp_path, capsys):
    capsys.readouterr()
    other = Place(tmp_path, "teacher.seed=1")
    (here,) = re.findall(r"weights (\w{12})\n", capsys.readouterr().out)
    with ZipFile(place.exported()) as file:
        there = json.loads(file.read("manifest.json"))["keys"][0]["weights"][:12]
    said = f"it is of another teacher, with other weights ({there} there, {here} here)"
    refused(lambda: other.cache("import", f"archive={place.exported()}"), said)
    capsys.readouterr()
    named = f"teacher.checkpoint={other.teacher}"  # known at once
    refused(lambda: place.cache("import", f"archive={place.exported()}", named, store="fresh"), said)
    assert "top-1" not in capsys.readouterr().out and not list((place.folder / "fresh").glob("measured/*"))


def rewritten(source, target, change):
    """An archive whose members `change` has seen: name and content to another content, or None."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return target


def test_files_that_no_export_wrote_are_refused(place, tmp_path):
    whole, other = place.exported(), tmp_path / "other.zip"
    take = lambda: place.cache("import", f"archive={other}", store="broken")  # noqa: E731
    refused(take, "there is no file", other)
    other.write_bytes(b"no zip")
    refused(take, other, "cannot be read")
    other.write_bytes(whole.read_bytes()[:-2000])
    refused(take, other, "cannot be read")
    flipped = bytearray(whole.read_bytes())
    flipped[flipped.index(b"distillab cache") + 2000] ^= 1
    other.write_bytes(flipped)
    refused(take, other, "CRC")
    for name, content in (("manifest.json", None), ("manifest.json", b"[]"), ("manifest.json", b'{"format": 1}')):
        rewritten(whole, other, lambda n, c, name=name, content=content: content if n == name else c)
        refused(take, other, "no readable manifest.json")
    rewritten(whole, other, lambda n, c: c.replace(b'"format": 1', b'"format": 2') if n.endswith("json") else c)
    refused(take, other, "format 2", "reads 1")
    rewritten(whole, other, lambda n, c: c if n.endswith("json") else c[:-1])
    refused(take, other, "is no shard of 300 samples")
    rewritten(whole, other, lambda n, c: c if n.endswith("json") else c[:-1] + bytes([c[-1] ^ 1]))
    refused(take, "is damaged in the file")
    with ZipFile(other, "a") as file:
        file.writestr("../000000-0/000000000.shard", b"")
    refused(take, other, "../000000-0")
    assert not place.shards("broken") and not list(place.folder.rglob(".import*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "out=x"), "share=… or tolerance=…"),
        (("export", "share=1.0"), "out=…"),
        (("import",), "both are missing"),
        (("import", "archive=a", "scores=b"), "one of them is needed"),
        (("import", "archive=absent.zip"), "there is no file absent.zip"),
        (("check", "share=0"), "share must be a number above 0 up to 1"),
        (("check", "tolerance=-1"), "tolerance must be a number from 0"),
        (("check", "strategy=hint", *small_run.SMALL), "not trained yet|whose outputs are cached"),
        (("check", "data=text", "data.path=x"), "are for images"),
    ],
)
def test_words_of_the_command(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        cache(words)


def test_images_in_files_are_the_same_on_a_machine_with_other_times(tmp_path, monkeypatch, capsys):
    root = write_images(tmp_path / "images", {"a": 30, "b": 30}, size=(8, 8), mode="L")
    files = ("data=folder", f"data.root={root}", "data.memory_budget=0", "data.workers=0", "data.samples=null")
    place = Place(
        tmp_path,
        *files,
        "recipe.epochs=1",
        "recipe.batch_size=16",
        "teacher.recipe.batch_size=16",
        "data.augment.flip=true",
    )
    file = place.exported()
    for image in root.rglob("*.png"):
        os.utime(image, (1, 1))
    place.cache("import", f"archive={file}", store="there")
    here, there = place.shards(), place.shards("there")
    assert len(here) == len(there) == 1 and here.keys() != there.keys()  # the key knows the times
    place.cache("check", "share=1.0", store="there")
    (difference,) = re.findall(r"the largest difference is (\S+),", capsys.readouterr().out)
    assert float(difference) < 1e-6  # another batch size may round another last bit
    with monkeypatch.context() as patch:
        patch.setattr(sources.PIL, "__version__", "1.0")
        refused(lambda: place.cache("import", f"archive={file}", store="older"), "Pillow 1.0", "reads them here")
    image = next(root.rglob("*.png"))
    content = bytearray(image.read_bytes())
    content[-1] ^= 1  # the checksum of its end: of the same size, and not looked at
    image.write_bytes(content)
    refused(lambda: place.cache("import", f"archive={file}", store="changed"), "other image files")


def test_a_manifest_names_every_part_of_a_key(place):
    with ZipFile(place.exported()) as file:
        parts = json.loads(file.read("manifest.json"))["keys"][0]
    known = manifest.OF_THE_TEACHER.keys() | manifest.SET_BY.keys() | {"data", "files"}
    assert parts.keys() <= known


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A place whose teacher has weights of five classes, and a head that was fitted there."""
    folder = tmp_path_factory.mktemp("adapted")
    save_five_classes(folder)
    return Place(folder, f"teacher.checkpoint={folder}/five.safetensors", "recipe.epochs=1")


def test_an_archive_brings_the_head_that_was_fitted_for_its_teacher(adapted, monkeypatch, capsys):
    file, empty = adapted.exported(), f"paths.store={adapted.folder}/empty"
    assert "head.safetensors" in ZipFile(file).namelist()
    with monkeypatch.context() as patch:
        patch.setattr(linear_probe, "probe", lambda *_: pytest.fail("a head was fitted"))
        cache(["import", *adapted.words, empty, f"archive={file}"])
        assert "300 outputs in 1 views filed" in capsys.readouterr().out
        with small_run.unmeasured():
            found = adapted.trained(empty, "cache.mode=require")
    assert found.cache["computed"] == 0 and found.cache["key"] == adapted.result.cache["key"]
    assert found.student.metrics == adapted.result.student.metrics
    assert found.teacher.metrics == adapted.result.teacher.metrics
    here, there = adapted.result.teacher.training, found.teacher.training
    assert there.source == here.source.replace("fitted here", "fitted elsewhere") and there.seconds == here.seconds
    cache(["import", *adapted.words, empty, f"archive={file}"])  # again
    assert "300 were there before" in capsys.readouterr().out


def test_a_head_that_is_not_taken_leaves_nothing(adapted, tmp_path, capsys):
    file, other = adapted.exported(), tmp_path / "other.zip"
    words = (*adapted.words, f"paths.store={tmp_path}/store")
    take = lambda *more: cache(["import", *words, *more])  # noqa: E731
    capsys.readouterr()
    refused(lambda: take(f"archive={file}", "data.view_seed=1"), "data.view_seed=0 there and 1 here")
    assert not list((tmp_path / "store").glob("networks/*/record.json"))
    for content in (b"no head", save({"weights": torch.full((10, 65), torch.nan), "facts": torch.ones(3)})):
        rewritten(file, other, lambda n, c, new=content: new if n.startswith("head") else c)
        refused(lambda: take(f"archive={other}"), other, "no head for 10 classes on 64 features")
    refused(
        lambda: take(f"archive={file}", "teacher.labelled=0.5"), "300 labelled images there, and these words show 150"
    )
    fake = save({"weights": torch.zeros(10, 65), "facts": torch.tensor([300.0, 1.0, 1.0])})
    rewritten(file, other, lambda n, c: fake if n.startswith("head") else c)
    refused(lambda: take(f"archive={other}"), "another teacher")  # than what its outputs are of
    digest, net = hashlib.sha256(), CifarResNet(depth=14, num_classes=10, in_channels=1)
    net.load_state_dict(load_file(adapted.teacher))
    for parameter in net.fc.parameters():
        torch.nn.init.zeros_(parameter)
    add_weights(digest, net)
    known = json.loads(ZipFile(file).read("manifest.json"))["keys"][0]["weights"].encode()
    of_fake = digest.hexdigest().encode()  # an archive whose outputs are those of the other head
    rewritten(file, other, lambda n, c: fake if n.startswith("head") else c.replace(known, of_fake))
    refused(lambda: cache(["import", *adapted.words, f"paths.store={adapted.folder}/here", f"archive={other}"]),
            "another head for resnet14 than was fitted here: delete")  # fmt: skip
    rewritten(file, other, lambda n, c: None if n.startswith("head") else c)
    refused(lambda: take(f"archive={other}"), "not trained yet")
    rewritten(file, other, lambda n, c: None if n.endswith("shard") else c)
    refused(lambda: take(f"archive={other}"), f"{other} has no outputs of a teacher")
    assert (
        "top-1" not in (told := capsys.readouterr().out) and "reused" not in told
    )  # of no teacher that is not its own
    assert not list((tmp_path / "store").glob("networks/*/record.json"))


def test_an_archive_of_a_fitted_head_says_that_to_a_teacher_that_needs_none(adapted, tmp_path):
    save_file(CifarResNet(depth=14, num_classes=10, in_channels=1).state_dict(), tmp_path / "ten.safetensors")
    take = lambda *words: cache(["import", *adapted.words, f"archive={adapted.exported()}", *words])  # noqa: E731
    empty = f"paths.store={tmp_path}/store"
    own = f"teacher.checkpoint={tmp_path}/ten.safetensors"
    refused(lambda: take(own, empty), "other weights (", "a head was fitted there: teacher.adapt=head")
    # Those of one that is trained as a whole are not known before.
    refused(lambda: take("teacher.adapt=all", empty), "resnet14 is not trained yet")
