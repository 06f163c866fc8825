"""The data module: splits, statistics, fingerprint, prepared batches, and what the person at the keyboard is told."""

import hashlib
import inspect
import os
import pickle
import shutil
from dataclasses import fields, replace
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
import yaml
from helpers.data_checks import AUGMENT, STRONG, cats_and_dogs, complaint, digits, folder, rows, write_images

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED
from distillab.data.images.augment import Augment
from distillab.data.images.datamodule import ImageData, image_statistics
from distillab.data.images.image_batch import ImageBatch
from distillab.data.images.sources import CIFAR10
from distillab.data.images.strong import Strong
from distillab.data.splits import carve, draw_stratified
from distillab.data.text.datamodule import TextData

OF_PATH = "${folder_name:data.path}"
CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture
def root(tmp_path):
    return cats_and_dogs(tmp_path)


def test_batches_become_floats_in_views(tmp_path):
    data = digits(tmp_path, augment={"crop": 1, "strong": STRONG}).configure(32, 0, num_views=2)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(5)
    stored = next(iter(loader))
    assert stored.view_number == 5 and not stored.augmented and stored.pixels[0].dtype == torch.uint8
    batch = data.on_after_batch_transfer(stored)
    assert batch.augmented and len(batch.pixels) == 2
    for view, made in enumerate(batch.pixels):
        assert torch.equal(made, data.augment(stored.pixels[0], stored.index, 5, view).float() / 255)
    weak = data.configure(32, 0).on_after_batch_transfer(stored)
    assert len(weak.pixels) == 1 and torch.equal(weak.pixels[0], batch.pixels[0])
    test = next(iter(data.test_dataloader()))
    assert test.augmented and test.view_number == AS_STORED
    assert torch.equal(data.on_after_batch_transfer(test).pixels[0], test.pixels[0].float() / 255)
    assert torch.equal(data.on_after_batch_transfer(batch).pixels[0], batch.pixels[0])
    pair = ImageBatch.of([torch.zeros(2, 1, 8, 8)], torch.zeros(2, dtype=torch.long))
    assert pair.index.tolist() == [-1, -1]


def test_digits_are_scaled_and_described(tmp_path):
    data = digits(tmp_path)
    assert data.sizes == {"train": 1294, "validation": 144, "test": 359}
    spec = data.info
    assert (spec.channels, spec.image_size, spec.classes) == (1, 8, tuple("0123456789"))
    train = torch.cat([data.collection.images[data.rows["train"]]])
    assert train.max() == 255
    assert spec.mean[0] == pytest.approx(train.double().mean().item() / 255, abs=1e-6)
    assert spec.std[0] == pytest.approx(train.double().std(correction=0).item() / 255, abs=1e-6)


def test_statistics_against_numpy():
    pixels = np.random.RandomState(0).randint(0, 256, (7, 3, 5, 5)).astype(np.uint8)
    mean, std = image_statistics(pixels)
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)) / 255, atol=1e-6)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)) / 255, atol=1e-6)


def test_splits_are_disjoint_stratified_and_seeded(tmp_path):
    data = digits(tmp_path)
    one, labels = rows(data), data.collection.labels
    assert one["train"] | one["validation"] | one["test"] == set(range(1797))
    assert sum(data.sizes.values()) == 1797
    for split in ("train", "validation", "test"):
        share = np.bincount(labels[list(one[split])]) / np.bincount(labels)
        assert share.max() - share.min() < 0.02
    assert rows(digits(tmp_path)) == one == rows(data.configure(64, seed=99))
    other = rows(digits(tmp_path, split_seed=1))
    assert other["test"] == one["test"] and other["validation"] != one["validation"]
    assert rows(digits(tmp_path, validation=0))["train"] == one["train"] | one["validation"]
    assert digits(tmp_path, validation=0).val_dataloader() == []


def test_samples_limit_training_alone(tmp_path):
    data = digits(tmp_path)
    few = data.with_samples(100)
    assert few.sizes == {"train": 100, "validation": 144, "test": 359}
    assert rows(few)["train"] < rows(data)["train"] and rows(few)["validation"] == rows(data)["validation"]
    assert np.bincount(few.collection.labels[list(rows(few)["train"])]).tolist() == pytest.approx([10] * 10, abs=1)
    assert rows(few) == rows(digits(tmp_path, samples=100))
    whole = {"validation": 0, "samples": 100}
    assert rows(digits(tmp_path, **whole))["train"] != rows(digits(tmp_path, **whole, split_seed=1))["train"]
    assert few.fingerprint == digits(tmp_path, samples=100).fingerprint
    assert few.with_samples(None).fingerprint == data.fingerprint
    assert few.collection is data.collection and few.info == data.info


def test_draw_keeps_rare_classes_and_the_exact_total():
    labels = np.repeat([0, 1, 2], [97, 2, 1])
    for total in (3, 10, 50, 100):
        drawn = draw_stratified(np.arange(100), labels, total, (0,))
        assert len(drawn) == len(set(drawn)) == total and set(labels[drawn]) == {0, 1, 2}
    with pytest.raises(UserError, match="class 'c' has 1"):
        carve(np.arange(100), labels, ("a", "b", "c"), 0.1, seed=(0,), mend="add images")


def test_fingerprint_knows_every_part_but_not_the_place(root, tmp_path):
    def fingerprint(place=root, **numbers):
        return folder(place, **numbers).fingerprint

    one = fingerprint()
    shutil.copytree(root, tmp_path / "elsewhere" / "pictures")
    assert fingerprint(tmp_path / "elsewhere" / "pictures") == one == fingerprint(name="other", workers=0)
    others = [
        fingerprint(split_seed=1),
        fingerprint(view_seed=1),
        fingerprint(validation=0.2),
        fingerprint(validation=0),
        fingerprint(samples=20),
        fingerprint(views=8),
        fingerprint(augment={"crop": 2, "flip": True}),
        fingerprint(augment=None),
        fingerprint(image_size=4),
        fingerprint(mean=[0.5] * 3, std=[0.5] * 3),
    ]
    strong = folder(root, augment=AUGMENT | {"strong": STRONG})
    assert strong.fingerprint == strong.configure(8, 0).fingerprint == one  # one view knows nothing of the strong one
    gentler = folder(root, augment=AUGMENT | {"strong": STRONG | {"magnitude": 5}})
    others += [data.configure(8, 0, num_views=2).fingerprint for data in (strong, gentler)]
    write_images(root / "train", {"cat": 1}, seed=8)
    others.append(fingerprint())
    others.append(fingerprint(samples=20))
    others.append(fingerprint(samples=20, split_seed=1))
    relabelled = folder(root)
    relabelled.collection = replace(relabelled.collection, labels=1 - relabelled.collection.labels)
    others.append(relabelled.fingerprint)
    assert len({one, *others}) == len(others) + 1


def test_bad_numbers(tmp_path, root):
    for numbers, mend in [
        ({"validation": 1.0}, "data.validation=0.1"),
        ({"validation": -0.1}, "data.validation=0.1"),
        ({"split_seed": -1}, "data.split_seed=0"),
        ({"view_seed": -1}, "data.view_seed=0"),
        ({"views": 0}, "data.views=8"),
        ({"mean": [0.5]}, "data.std=null"),
        ({"augment": {"mosaic": 1}}, 'data.augment has no "mosaic"'),
        ({"augment": {"resized_crop": 0.1}}, "data.augment.resized_crop=0"),
    ]:
        complaint(lambda numbers=numbers: digits(tmp_path, **numbers), mend)
    for numbers, mend in [
        ({"validation": 0.999}, "data.validation=…"),
        ({"samples": 2000}, "data.samples=1294"),
        ({"samples": 9}, "data.samples=10"),
        ({"mean": [0.5, 0.5], "std": [1, 1]}, "data.mean=null"),
        ({"augment": {"crop": 9}}, "data.augment.crop=1"),
    ]:
        complaint(digits(tmp_path, **numbers).prepare, mend)
    for numbers, mend in [
        ({"image_size": 0}, "data.image_size=32"),
        ({"resize": 8}, "data.resize=null"),
        ({"augment": {"resized_crop": 0.1}}, "data.image_size=224"),
        ({"workers": -1}, "data.workers=2"),
    ]:
        complaint(lambda numbers=numbers: folder(root, **numbers), mend)
    data = digits(tmp_path)
    for batch_size in (0, -1, 1295):
        complaint(lambda batch_size=batch_size: data.configure(batch_size, 0), "recipe.batch_size=64")
    complaint(lambda: data.configure(1000, 0).with_samples(100), "recipe.batch_size=64")
    complaint(lambda: data.configure(8, 0, num_views=2), "data=digits", "data.augment.strong={operations:2")
    complaint(lambda: data.configure(8, 0, num_views=3), "weak", "strong")


def test_cifar10_from_files_and_without_a_network(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10 as source

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    data = CIFAR10(root=tmp_path / "datasets", name="cifar10", cache_dir=tmp_path, augment=AUGMENT)
    complaint(data.prepare, tmp_path / "datasets", "no route to host", "data=digits", "data=folder")

    base = tmp_path / "datasets" / source.base_folder
    base.mkdir(parents=True)
    pixels = np.random.RandomState(0).randint(0, 256, (6, 20, 3, 32, 32)).astype(np.uint8)
    for part, (name, _) in zip(pixels, source.train_list + source.test_list, strict=True):
        labels = [row % 10 for row in range(20)]
        (base / name).write_bytes(pickle.dumps({"data": part.reshape(20, -1), "labels": labels}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(source, "_check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    assert data.sizes == {"train": 90, "validation": 10, "test": 20} and data.info.classes == tuple("abcdefghij")
    images_in_order = torch.cat([batch.pixels[0] for batch in data.test_dataloader()])
    assert np.array_equal(images_in_order, pixels[5])
    assert data.collection.content == hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()

    monkeypatch.setattr(CIFAR10, "_part", lambda *_: pytest.fail("unpacked again"))
    again = CIFAR10(root=tmp_path / "datasets", name="cifar10", cache_dir=tmp_path, augment=AUGMENT)
    assert again.fingerprint == data.fingerprint and torch.equal(again.training_labels, data.training_labels)
    assert torch.equal(again.collection.images, data.collection.images)
    (kept,) = tmp_path.glob("data/*/images.npy")
    with kept.open("r+b") as file:  # both map this file, and hold no copy of it
        file.seek(-1, 2)
        file.write(bytes([pixels[5, -1, -1, -1, -1] ^ 1]))
    assert all(one.collection.images[-1, -1, -1, -1] == pixels[5, -1, -1, -1, -1] ^ 1 for one in (data, again))

    os.utime(base / "test_batch", (1, 1))  # other files, perhaps
    with pytest.raises(pytest.fail.Exception, match="unpacked again"):
        CIFAR10(root=tmp_path / "datasets", name="cifar10", cache_dir=tmp_path).prepare()


def test_every_config_names_what_its_class_takes():
    found = sorted(path.stem for path in CONF.glob("*.yaml"))
    images = {"cifar10", "cifar100", "digits", "fashion_mnist", "folder", "imagenet", "mnist", "svhn"}
    assert images | {"sotu", "synthetic", "text"} <= set(found)
    for name in found:
        config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        inherited = yaml.safe_load((CONF / "text.yaml").read_text()) if "text" in config.get("defaults", ()) else {}
        config = inherited.get("data", {}) | config.get("data", config)  # digits say what the teacher knows, too
        target = resolve_name(config.pop("_target_"))
        inits = [
            cls.__init__ for cls in target.__mro__ if cls.__module__.startswith("distillab") and "__init__" in vars(cls)
        ]
        known = {key for init in inits for key in inspect.signature(init).parameters} - {"self", "common"}
        named = {"folder": "${folder_name:data.root}", "text": OF_PATH, "synthetic": OF_PATH}.get(name, name)
        assert set(config) == known and config["name"] == named
        if issubclass(target, TextData):
            continue
        assert ImageData.__init__ in inits and config["cache_dir"] == "${paths.store}"
        assert set(config["augment"]) <= {field.name for field in fields(Augment)}
        assert set(config["augment"]["strong"]) == {field.name for field in fields(Strong)}
        assert Augment.of(config["augment"]).strong is not None
