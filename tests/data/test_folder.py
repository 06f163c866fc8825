"""Folders of images: what is found in them, and what is kept of them on disk."""

import errno
import os
import shutil
import socket
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.data_checks import cats_and_dogs, complaint, folder, rows, write_images
from PIL import Image

from distillab.core.errors import UserError
from distillab.data.images import decode, file_views
from distillab.data.images import sources as images


@pytest.fixture
def root(tmp_path):
    return cats_and_dogs(tmp_path)


def test_a_folder_without_a_test_gets_one_that_no_seed_moves(tmp_path):
    flat = write_images(tmp_path / "flat", {"a": 20, "b": 20})
    one, other = folder(flat), folder(flat, split_seed=7)
    assert one.sizes == {"train": 29, "validation": 3, "test": 8} and one.info.name == "folder"
    assert rows(one)["test"] == rows(other)["test"] and rows(one)["validation"] != rows(other)["validation"]


def test_val_beside_test_validates_and_alone_is_the_test(root):
    write_images(root / "val", {"cat": 3, "dog": 3}, seed=5)
    assert folder(root).sizes == {"train": 50, "validation": 6, "test": 10}
    assert folder(root, validation=0).sizes == {"train": 50, "validation": 0, "test": 10}
    shutil.rmtree(root / "test")
    assert folder(root).sizes == {"train": 45, "validation": 5, "test": 6}


def test_grey_stays_grey_only_where_all_are(tmp_path):
    grey = write_images(tmp_path / "grey", {"a": 10, "b": 10}, mode="L")
    assert folder(grey).info.channels == 1
    write_images(grey, {"b": 10})
    assert folder(grey).info.channels == 3


def test_image_size_resizes_the_shorter_side_and_crops(tmp_path):
    wide = write_images(tmp_path / "wide", {"a": 10, "b": 10}, size=(12, 6))
    data = folder(wide, image_size=6)
    data.prepare()
    original = np.asarray(Image.open(wide / "a" / "000.png"))[:, 3:9]
    assert np.array_equal(data.collection.images[0].permute(1, 2, 0), original)
    assert folder(wide, image_size=4, resize=5, augment=None).info.image_size == 4


def decoded(root):
    (path,) = (root.parent / "store" / "data").glob("*/images.npy")
    return path


def test_images_are_decoded_once(root, monkeypatch, tmp_path):
    first = folder(root)
    pixels = first.collection.images.clone()
    monkeypatch.setattr(images, "read_image", lambda *_: pytest.fail("decoded again"))
    shutil.copytree(root, tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(images, "hash_files", lambda *_: pytest.fail("read again"))
        again = folder(root)
        assert torch.equal(again.collection.images, pixels)
    write_cache = root.parent / "store"
    looked = {"content": None, "channels": 3, "size": [6, 6], "sample": "x"}
    monkeypatch.setattr(images.Folder, "_look", lambda *_: looked)
    moved = folder(tmp_path / "moved", cache_dir=write_cache)
    moved.prepare()
    assert moved.fingerprint == first.fingerprint and decoded(root)


@pytest.mark.parametrize("damage", ["cut", "foreign", "text", "gone"])
def test_a_damaged_cache_is_built_again(root, damage):
    first = folder(root)
    first.prepare()
    pixels, path = first.collection.images.clone(), decoded(root)
    if damage == "cut":
        os.truncate(path, path.stat().st_size - 10)
    elif damage == "foreign":
        np.save(path, np.zeros((60, 3, 6, 7), dtype=np.uint8))
    elif damage == "text":
        path.write_text("no array")
    else:
        path.unlink()
    second = folder(root)
    second.prepare()
    assert torch.equal(second.collection.images, pixels)
    assert not list(path.parents[1].rglob("*.tmp"))


def test_a_changed_file_is_seen(root):
    before = folder(root).fingerprint
    path = root / "test" / "cat" / "000.png"
    size, pixels = path.stat().st_size, np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    os.utime(path, (1, 1))
    assert folder(root).fingerprint != before and abs(path.stat().st_size - size) < 20


def test_the_cache_of_images_in_files_knows_their_times_and_who_decodes_them(root, monkeypatch):
    def stamp(**numbers):
        return folder(root, mean=[0.5] * 3, std=[0.5] * 3, **numbers).collection.files_stamp

    assert stamp() is None  # of decoded images the whole content counts
    first = stamp(memory_budget=0)
    assert first == stamp(memory_budget=0)
    os.utime(root / "test" / "cat" / "000.png", (1, 1))
    touched = stamp(memory_budget=0)
    monkeypatch.setattr(images.PIL, "__version__", "another")
    assert len({first, touched, stamp(memory_budget=0)}) == 3


@pytest.mark.parametrize("numbers", [{}, {"memory_budget": 0}], ids=["decoded", "in files"])
def test_how_images_were_resized_and_decoded_is_known(root, monkeypatch, numbers):
    numbers |= {"image_size": 4, "mean": [0.5] * 3, "std": [0.5] * 3}

    def content(resize):
        data = folder(root, resize=resize, **numbers)
        data.prepare()
        return data.collection.content, data.fingerprint

    plain = content(None)
    assert content(4) == plain  # the same pixels
    others = [content(5), content(6)]
    monkeypatch.setattr(images, "DECODER", "another")
    others += [content(None), content(5)]
    assert len({plain[0], *(one for one, _ in others)}) == len({plain[1], *(one for _, one in others)}) == 5


def test_a_cache_that_cannot_be_written(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    complaint(folder(root, cache_dir=tmp_path / "file").prepare, tmp_path / "file", "paths.store=")
    with monkeypatch.context() as patch:
        patch.setattr(decode.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        complaint(folder(root).prepare, root.parent / "store", "paths.store=", "GiB")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decode.np.lib.format, "write_array_header_1_0", full)
    complaint(folder(root).prepare, "No space left on device", "paths.store=")
    assert not list((root.parent / "store" / "data").rglob("*.tmp"))


def test_bad_folders(tmp_path, root):
    prepare = lambda place, **numbers: folder(place, **numbers).prepare  # noqa: E731
    complaint(prepare(tmp_path / "absent"), tmp_path / "absent", "data.root=")
    (tmp_path / "empty").mkdir()
    complaint(prepare(tmp_path / "empty"), tmp_path / "empty", "data.root=")
    (root / "train" / "owl").mkdir()
    complaint(prepare(root), root / "train" / "owl", "no images")
    (root / "train" / "owl").rmdir()
    write_images(root / "test", {"owl": 1})
    complaint(prepare(root), root / "test" / "owl")
    shutil.rmtree(root / "test" / "owl")
    odd = write_images(root / "train", {"dog": 1}, size=(7, 6)) / "dog" / "000.png"
    complaint(prepare(root), odd, "data.image_size=6")
    odd.write_bytes((root / "train" / "dog" / "001.png").read_bytes()[:60])
    complaint(prepare(root), odd, "not a readable image")
    loader = folder(root, memory_budget=0, workers=1, mean=[0.5] * 3, std=[0.5] * 3).configure(45, 0).train_dataloader()
    complaint(lambda: [list(loader), loader.sampler.set_epoch(1), list(loader)], odd, "not a readable image")
    complaint(prepare(write_images(tmp_path / "wide", {"a": 5, "b": 5}, size=(8, 6))), "data.image_size=6")
    Image.fromarray(np.zeros((6, 6), dtype=np.int32)).save(odd, "TIFF")
    complaint(prepare(root), odd, "8 or 16 bits")


def test_splits_are_found_by_their_usual_names_in_any_case(tmp_path, capsys):
    for number, (train, validation, test) in enumerate([("Train", "valid", "TEST"), ("training", "dev", "Testing")]):
        root = tmp_path / str(number) / "images"
        for name, count in ((train, 20), (validation, 3), (test, 4)):
            write_images(root / name, {"cat": count, "dog": count}, seed=count)
        assert folder(root).sizes == {"train": 40, "validation": 6, "test": 8}
        told = f"{train}/ trains (40 images), {validation}/ validates (6 images), {test}/ is the test (8 images)"
        assert told in capsys.readouterr().out
        assert folder(root, validation=0).sizes["train"] == 40
        assert f"{validation}/ is not used (data.validation=0)" in capsys.readouterr().out
        assert folder(root, samples=12).sizes["train"] == 12
        assert f"{told}, data.samples=12 of them train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["train/cat", "train/dog", "val"], ["val has 3 images", "their labels are unknown"]),
        (["train/cat", "train/dog", "val/cat", "test"], ["test has 3 images", "test/<class>/"]),
        (["train/cat", "train/dog", "val/cat", "VALID/cat"], ["2 folders for validation (VALID, val)"]),
        (["train/cat", "Train/cat"], ["2 folders for train (Train, train)"]),
        (["test/cat", "test/dog", "val/cat", "val/dog"], ["val and test and no train folder"]),
        (["cat", "dog", "testing"], ["testing and no train folder", "where testing is a class"]),
        (["train/cat", "train/dog", "eval/cat"], ["eval may be the validation or the test", "rename it"]),
        (["car", "plane", "train"], ["train has 3 images", "where train is a class"]),
        (["train/cat", "train/dog", *(f"test/{n}" for n in "abcde")], ["5 class folders", "test/a", "test/c, …"]),
    ],
)
def test_a_split_that_is_unclear_is_refused_by_name(tmp_path, folders, words):
    for place in folders:
        write_images(tmp_path / "images" / place, {"": 3})
    complaint(folder(tmp_path / "images").prepare, "images", *words)


def test_all_that_is_not_read_is_named_and_a_pipe_does_not_hang(root, capsys, monkeypatch):
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(root)  # a socket's address is short
        unix.bind("train/dog/socket.png")
    (root / "train" / "cat" / "broken.png").symlink_to("nowhere")
    (root / "train" / "cat" / "self.png").symlink_to("self.png")
    (root / "train" / "cat" / "link.png").symlink_to(root / "train" / "cat" / "001.png")
    for name in ("train/cat/a.jfif", "train/dog/b.jfif", "test/cat/c.AVIF", "test/cat/.hidden.png", "notes"):
        (root / name).touch()
    write_images(root, {"other": 1, ".trash": 1, "train": 2, "train/cat/deep": 4})
    data = folder(root)
    data.prepare()
    assert sum(data.sizes.values()) == 60 + 1 + 4
    used, unused = capsys.readouterr().out.splitlines()[:2]
    assert "4 images lie in folders inside class folders" in used
    for words in (
        "hidden: 2 (", "other folders: 1 (other)", "images outside class folders: 2 (train/000.png", ".avif files: 1",
        ".jfif files: 2 (train/cat/a.jfif, train/dog/b.jfif)", "files without an ending: 1 (notes)",
        "broken links: 4 (",
    ):  # fmt: skip
        assert words in unused


def test_a_link_back_is_one_short_line(root):
    (root / "train" / "cat" / "up").symlink_to("..")
    complaint(folder(root).prepare, root / "train" / "cat" / "up", f"leads back to {root / 'train'} by a link")


def test_all_broken_images_are_told_at_once(root):
    for number in (0, 4, 7, 9):
        (root / "train" / "cat" / f"{number:03}.png").write_bytes(b"no image")
    write_images(root / "train", {"dog": 1}, size=(7, 6))
    complaint(folder(root).prepare, "train/cat/000.png is not", "4 more of 60 files", "cat/004.png", "009.png, …")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mean", [None, [0.5] * 3])  # met at once where the mean is measured, else in the first epoch
def test_all_broken_images_are_told_at_once_where_they_stay_in_files(root, workers, mean):
    broken = [root / "train" / "cat" / f"{number:03}.png" for number in (4, 7, 9)] + [root / "test" / "dog" / "003.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-40])
    data = folder(root, memory_budget=0, workers=workers, mean=mean, std=mean)
    with pytest.raises(UserError) as error:
        list(data.configure(16, 0).train_dataloader())
    message = str(error.value)
    first, others = message.split(" is not a readable image (")
    assert "; 3 more of 60 files cannot be used (" in others and "\n" not in message
    assert sorted([first, *others.split("be used (")[1].rstrip(")").split(", ")]) == sorted(map(str, broken))


def test_the_search_for_other_broken_images_ends_in_time(root, monkeypatch):
    monkeypatch.setattr(file_views, "SEARCH", -1.0)
    broken = [root / "train" / "cat" / f"{number:03}.png" for number in (4, 7)]
    for path in broken:
        path.write_bytes(b"no image")
    views = folder(root, memory_budget=0, mean=[0.5] * 3, std=[0.5] * 3).configure(16, 0).train_dataloader().source
    complaint(lambda: views[views.files.index(str(broken[1])), 0], f"{broken[1]} is not a readable image")


def test_names_whose_bytes_are_no_utf_8_are_shown_escaped(tmp_path, capsys):
    """Also in a message; a control character, which would break a line, is escaped too."""
    for split in ("train", "test"):
        for name in (b"caf\xe9", b"new\nline", "naïve $x$".encode()):
            place = os.fsencode(tmp_path / "images" / split) + b"/" + name
            os.makedirs(place)
            for number in range(4):
                Image.new("L", (4, 4), number).save(io := BytesIO(), "PNG")
                with open(place + b"/\xff%d.png" % number, "wb") as file:
                    file.write(io.getvalue())
    data = folder(tmp_path / "images", validation=0)
    assert data.info.classes == ("caf\\xe9", "naïve $x$", "new\\x0aline") and data.sizes["train"] == 12
    assert data.fingerprint and data.identity and not capsys.readouterr().out.encode().count(b"\n\n")
    with open(os.fsencode(tmp_path / "images" / "train") + b"/caf\xe9/\xff0.png", "wb") as file:
        file.write(b"no image")
    complaint(folder(tmp_path / "images").prepare, "caf\\xe9/\\xff0.png is not a readable image")
