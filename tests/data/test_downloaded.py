"""Fashion-MNIST, MNIST and SVHN: out of files of their formats, and what is said where there are none."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from helpers.data_checks import complaint
from scipy.io import savemat

from distillab.data.images.idx import MNIST, TEST, TRAIN, FashionMNIST
from distillab.data.images.sources import SVHN

PIXELS = np.random.RandomState(0).randint(0, 256, (50, 28, 28)).astype(np.uint8)
LABELS = np.arange(50).astype(np.uint8) % 10
PACKAGED = FashionMNIST.package_folder
PARTS = {TRAIN: slice(0, 30), TEST: slice(30, 50)}


def idx(array):
    """An array of bytes as the format's description has it: type, dimensions, their sizes, big-endian, the bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write(folder, packed=False):
    folder.mkdir(parents=True)
    for names, part in PARTS.items():
        for name, array in zip(names, (PIXELS[part], LABELS[part]), strict=True):
            ending, content = (".gz", gzip.compress(idx(array))) if packed else ("", idx(array))
            (folder / f"{name}{ending}").write_bytes(content)
    return folder


def data(kind, root, store, **numbers):
    return kind(root=root, name=kind.__name__, cache_dir=store, validation=0, **numbers)


@pytest.fixture
def alone(monkeypatch):
    """No network, and no package of the system."""

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", refuse)
    monkeypatch.setattr(FashionMNIST, "package_folder", None)
    return monkeypatch


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_a_folder_of_idx_files(tmp_path, alone, kind, packed):
    root = write(tmp_path / "set", packed)
    found = data(kind, root, tmp_path)
    assert found.sizes == {"train": 30, "validation": 0, "test": 20}
    assert np.array_equal(found.collection.images[:, 0], PIXELS) and np.array_equal(found.collection.labels, LABELS)
    assert (found.info.channels, found.info.image_size, len(set(found.info.classes))) == (1, 28, 10)
    assert found.info.classes[5] == ("5" if kind is MNIST else "Sandal")
    assert found.collection.content == hashlib.blake2b(PIXELS.tobytes(), digest_size=16).hexdigest()
    assert found.info.mean[0] == pytest.approx(PIXELS[:30].mean() / 255, abs=1e-6)

    alone.setattr(kind, "_part", lambda *_: pytest.fail("read again"))
    again = data(kind, root, tmp_path)
    assert again.fingerprint == found.fingerprint and torch.equal(again.training_labels, found.training_labels)


def test_torchvisions_own_folder_and_debians_package(tmp_path, alone):
    plain = data(MNIST, write(tmp_path / "plain"), tmp_path).fingerprint
    write(tmp_path / "root" / "MNIST" / "raw")
    assert data(MNIST, tmp_path / "root", tmp_path).fingerprint == plain
    alone.setattr(FashionMNIST, "package_folder", write(tmp_path / "packaged", packed=True))
    assert np.array_equal(data(FashionMNIST, tmp_path / "none", tmp_path).collection.images[:, 0], PIXELS)


def test_no_data_is_one_line_that_names_package_folder_and_override(tmp_path, alone):
    assert str(PACKAGED) == "/usr/share/dataset-fashion-mnist"
    alone.setattr(FashionMNIST, "package_folder", tmp_path / "packaged")
    write(tmp_path / "set")
    (tmp_path / "set" / TEST[1]).unlink()  # three of four are none
    for kind, named in (
        (FashionMNIST, ("apt install dataset-fashion-mnist", tmp_path / "packaged", TRAIN[0])),
        (MNIST, (TRAIN[0],)),
        (SVHN, ("http://ufldl.stanford.edu/housenumbers/train_32x32.mat",)),
    ):
        complaint(data(kind, tmp_path / "set", tmp_path).prepare, tmp_path / "set", "no route", "data.root=…", *named)


def test_files_that_are_broken_are_named(tmp_path, alone):
    root = write(tmp_path / "set")
    pixels, labels = (root / name for name in TRAIN)
    whole = pixels.read_bytes()
    for content, said in (
        (whole[:-1], "23,519 numbers in place of 30×28×28"),
        (b"<html>", "no IDX file"),
        (b"", "no IDX"),
    ):
        pixels.write_bytes(content)
        complaint(data(MNIST, root, tmp_path).prepare, pixels, said, "data.root=…")
    pixels.write_bytes(whole)
    labels.write_bytes(idx(LABELS[:29]))
    complaint(data(MNIST, root, tmp_path).prepare, pixels, "30 images", "29 labels")
    labels.write_bytes(idx(LABELS[:30] + 1))
    complaint(data(MNIST, root, tmp_path).prepare, "from 0 to 9, got 10")
    labels.unlink()
    labels.with_suffix(".gz").write_bytes(gzip.compress(idx(LABELS[:30]))[:-9])
    complaint(data(MNIST, root, tmp_path).prepare, f"{labels}.gz cannot be read")


def test_svhn_out_of_its_matlab_files(tmp_path, alone):
    pixels = np.random.RandomState(1).randint(0, 256, (32, 32, 3, 20)).astype(np.uint8)  # the sample comes last
    labels = np.arange(20) % 10 + 1  # 10 stands for the digit 0
    root = tmp_path / "set"
    root.mkdir()
    for name in ("train", "test"):
        savemat(root / f"{name}_32x32.mat", {"X": pixels, "y": labels[:, None]})
    alone.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    alone.setattr("torchvision.datasets.svhn.download_url", lambda *_: None)
    found = data(SVHN, root, tmp_path)
    assert found.sizes == {"train": 20, "validation": 0, "test": 20}
    assert np.array_equal(found.collection.images[:20].permute(2, 3, 1, 0), pixels)
    assert found.collection.labels[:20].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    assert found.info.classes == tuple("0123456789") and found.info.channels == 3
