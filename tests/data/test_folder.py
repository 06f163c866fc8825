"""Folders of images: what is found in them, and what is kept of them on disk."""

import errno
import os
import shutil

import numpy as np
import pytest
import torch
from helpers.data_checks import cats_and_dogs, complaint, folder, rows, write_images
from PIL import Image

from distillab.data.images import decode
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
    looked = {"content": None, "channels": 3, "size": [6, 6]}
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
    if "memory_budget" not in numbers:
        files = [str(path) for path in [*sorted(root.glob("train/*/*")), *sorted(root.glob("test/*/*"))]]
        assert plain[0] == decode.hash_files(files)  # nothing but what is in the files
    others = [content(5), content(6)]
    monkeypatch.setattr(images, "DECODER", "2")
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
    Image.fromarray(np.zeros((6, 6), dtype=np.uint16)).save(odd)
    complaint(prepare(root), odd, "8 bits")


def test_a_link_to_a_folder_above_is_one_line(root):
    classes = root / "train" if (root / "train").is_dir() else root
    first = next(path for path in sorted(classes.iterdir()) if path.is_dir())
    (first / "again").symlink_to(first.parent)
    complaint(folder(root).prepare, first / "again", "link to a folder that it lies in", "data.root=")
