import errno
import inspect
import os
import pickle
import random
import shutil
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from distillab.data import decode, images
from distillab.data.batch import Batch
from distillab.data.collection import image_statistics
from distillab.data.images import CIFAR10, Digits, Folder
from distillab.data.loader import Loader, Order, TensorViews
from distillab.data.splits import carve, draw_stratified
from distillab.errors import UserError

CONF = Path(__file__).parents[1] / "conf" / "data"
AUGMENT = {"crop": 1, "flip": True}


def write_images(folder, counts, size=(6, 6), mode="RGB", seed=0):
    generator = np.random.RandomState(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = size[::-1] + ((3,) if mode == "RGB" else ())
            pixels = generator.randint(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "images" / "train", {"cat": 20, "dog": 30})
    write_images(tmp_path / "images" / "test", {"cat": 4, "dog": 6}, seed=1)
    return tmp_path / "images"


def folder(root, **numbers):
    return Folder(
        **({"root": root, "name": "folder", "cache_dir": root.parent / "store", "augment": AUGMENT} | numbers)
    )


def digits(tmp_path, **numbers):
    return Digits(**({"name": "digits", "cache_dir": tmp_path, "augment": {"crop": 1}} | numbers))


def indices(batches):
    return [batch.index.tolist() for batch in batches]


def tensors(count=50, augmented=False):
    return TensorViews(
        torch.arange(count).byte().view(-1, 1, 1, 1), torch.arange(count), torch.arange(count), augmented
    )


# Order and loader


def test_order_is_a_function_of_seed_and_epoch():
    def epoch_of(seed, epoch):
        order = Order(50, 8, seed)
        order.set_epoch(epoch)
        return torch.cat(list(order.batches())).tolist()

    assert epoch_of(3, 2) == epoch_of(3, 2)
    assert len({tuple(epoch_of(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sorted(epoch_of(3, 2)) == list(range(50)) != epoch_of(3, 2)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 18, 19, 20, 33])
def test_two_ranks_share_each_global_batch_of_one(size):
    def run(world):
        orders = [Order(size, 8, 1, rank=rank, world=world) for rank in range(world)]
        return orders, [list(order.batches()) for order in orders]

    (one,), (whole,) = run(1)
    orders, shares = run(2)
    assert sorted(torch.cat([index for share in shares for index in share]).tolist()) == list(range(size))
    assert all(len(share) == len(order) for share, order in zip(shares, orders, strict=True))
    for first, second in zip(*shares, strict=True):
        assert abs(len(first) - len(second)) <= 1 and (size < 4 or len(first) >= 2)
    joined = [torch.cat(pair) for pair in zip(*shares, strict=True)]
    assert torch.equal(torch.cat(joined), torch.cat(whole))
    assert len(one) == len(whole)


def test_view_numbers_follow_the_epoch_and_cycle():
    order = Order(4, 2, 0, views=2, cycle=4)
    numbers = []
    for epoch in range(4):
        order.set_epoch(epoch)
        numbers.append(order.number)
        assert {number for batch in order for _, number in batch} == {order.number}
    assert numbers == [0, 2, 0, 2]
    evaluation = Order(4, 2, None)
    evaluation.set_epoch(3)
    assert evaluation.number == 0


@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_resume_goes_on_with_the_next_batch(stop):
    unbroken = Loader(tensors(), 7, seed=5)
    unbroken.sampler.set_epoch(2)
    expected = indices(unbroken)
    assert len(expected) == len(unbroken) == 7  # 50 = 7 × 7 + 1, and 1 is too few for a batch

    broken = Loader(tensors(), 7, seed=5)
    broken.sampler.set_epoch(2)
    iterator = iter(broken)
    seen = indices(next(iterator) for _ in range(stop))
    state = broken.state_dict()

    resumed = Loader(tensors(), 7, seed=5)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    iter(resumed)  # Lightning makes an iterator that it never uses
    iterator = iter(resumed)
    resumed.sampler.set_epoch(2)
    assert seen + indices(iterator) == expected and len(resumed) == 7
    assert indices(resumed) == expected
    resumed.sampler.set_epoch(3)
    assert resumed.state_dict() == {"epoch": 3, "batches": 0}
    assert len(indices(resumed)) == 7


class Recorder(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(
            (self.current_epoch, batch_idx, batch.number, batch.index.tolist(), batch.views[0].sum().item())
        )
        return self.weight * batch.views[0].mean()

    def validation_step(self, batch, batch_idx):
        assert batch.number == 0 and batch.views[0].dtype == torch.float32

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(lightning.Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(data, tmp_path, *callbacks, checkpoint=None):
    module = Recorder()
    lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
    ).fit(module, datamodule=data, ckpt_path=checkpoint)
    return module


@pytest.mark.parametrize("validation", [0, 0.1])
def test_a_fit_resumed_in_mid_epoch_sees_the_batches_left(tmp_path, validation):
    data = digits(tmp_path, validation=validation).configure(400, seed=3, views=1)
    length = len(data.train_dataloader())
    saves = [SaveAt(step, tmp_path / f"{step}.ckpt") for step in (1, length + 1, 2 * length)]
    unbroken = fit(data, tmp_path, *saves)
    assert [epoch for epoch, *_ in unbroken.seen] == [epoch for epoch in range(3) for _ in range(length)]
    for save in saves:
        resumed = fit(data, tmp_path, checkpoint=save.path)
        assert resumed.seen == unbroken.seen[save.step :]
        assert torch.equal(resumed.weight, unbroken.weight)


# Files and workers


@pytest.mark.parametrize("augment", [AUGMENT, {"resized_crop": 0.3, "flip": True}])
def test_workers_change_nothing(root, augment):
    runs = []
    for workers in (0, 2):
        data = folder(root, memory_budget=0, workers=workers, augment=augment, image_size=6).configure(16, 1, views=2)
        loader = data.train_dataloader()
        batches = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches += list(loader)
        runs.append(batches)
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one.index, two.index) and torch.equal(one.labels, two.labels) and one.number == two.number
        assert len(one.views) == 2 and one.augmented
        assert all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True))
    assert not torch.equal(runs[0][0].views[0], runs[0][0].views[1])
    assert runs[0][0].views[0].dtype == torch.uint8 and runs[0][0].views[0].shape == (16, 3, 6, 6)
    assert {batch.number for batch in runs[0]} == {0, 2}


def test_a_file_view_does_not_depend_on_the_batch_or_the_runs_generators(root):
    views = folder(root, memory_budget=0).configure(8, 0).train_dataloader().source
    once = views[5, 3][0][0]
    torch.manual_seed(9)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert torch.equal(views[5, 3][0][0], once)
    assert any(not torch.equal(views[5, number][0][0], once) for number in range(4, 8))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_resume_in_mid_epoch_with_files(root):
    data = folder(root, memory_budget=0, workers=0).configure(10, 1)
    expected = indices(data.train_dataloader())
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 0, "batches": 2})
    assert indices(loader) == expected[2:] and len(expected) == 5


def test_decoded_and_read_images_are_the_same(root):
    decoded, read = folder(root), folder(root, memory_budget=0, workers=0)
    for one, two in zip(decoded.test_dataloader(), read.test_dataloader(), strict=True):
        assert torch.equal(one.views[0], two.views[0]) and torch.equal(one.labels, two.labels)
    original = np.asarray(Image.open(root / "test" / "dog" / "005.png"))
    assert np.array_equal(one.views[0][-1].permute(1, 2, 0), original)
    assert decoded.spec == read.spec


# The data module


def test_batches_become_floats_in_views(tmp_path):
    data = digits(tmp_path).configure(32, 0, views=2)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(5)
    stored = next(iter(loader))
    assert stored.number == 10 and not stored.augmented and stored.views[0].dtype == torch.uint8
    batch = data.on_after_batch_transfer(stored)
    assert batch.augmented and len(batch.views) == 2
    for offset, view in enumerate(batch.views):
        assert torch.equal(view, data.augment(stored.views[0], stored.index, 10 + offset).float() / 255)
    test = next(iter(data.test_dataloader()))
    assert test.augmented and test.number == 0
    assert torch.equal(data.on_after_batch_transfer(test).views[0], test.views[0].float() / 255)
    assert torch.equal(data.on_after_batch_transfer(batch).views[0], batch.views[0])
    pair = Batch.of((torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)))
    assert pair.index.tolist() == [-1, -1]


def test_digits_are_scaled_and_described(tmp_path):
    data = digits(tmp_path)
    assert data.sizes == {"train": 1294, "validation": 144, "test": 359}
    spec = data.spec
    assert (spec.channels, spec.image_size, spec.classes) == (1, 8, tuple("0123456789"))
    train = torch.cat([data._collection.images[data._rows["train"]]])
    assert train.max() == 255
    assert spec.mean[0] == pytest.approx(train.double().mean().item() / 255, abs=1e-6)
    assert spec.std[0] == pytest.approx(train.double().std(correction=0).item() / 255, abs=1e-6)


def test_statistics_against_numpy():
    pixels = np.random.RandomState(0).randint(0, 256, (7, 3, 5, 5)).astype(np.uint8)
    mean, std = image_statistics(pixels)
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)) / 255, atol=1e-6)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)) / 255, atol=1e-6)


def rows(data):
    data.prepare()
    return {split: set(found.tolist()) for split, found in data._rows.items()}


def test_splits_are_disjoint_stratified_and_seeded(tmp_path):
    data = digits(tmp_path)
    one, labels = rows(data), data._labels.numpy()
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
    assert np.bincount(few._labels[list(rows(few)["train"])]).tolist() == pytest.approx([10] * 10, abs=1)
    assert rows(few) == rows(digits(tmp_path, samples=100))
    whole = {"validation": 0, "samples": 100}
    assert rows(digits(tmp_path, **whole))["train"] != rows(digits(tmp_path, **whole, split_seed=1))["train"]
    assert few.fingerprint == digits(tmp_path, samples=100).fingerprint
    assert few.with_samples(None).fingerprint == data.fingerprint
    assert few._collection is data._collection and few.spec == data.spec


def test_draw_keeps_rare_classes_and_the_exact_total():
    labels = np.repeat([0, 1, 2], [97, 2, 1])
    for total in (3, 10, 50, 100):
        drawn = draw_stratified(np.arange(100), labels, total, (0,))
        assert len(drawn) == len(set(drawn)) == total and set(labels[drawn]) == {0, 1, 2}
    with pytest.raises(UserError, match="class 'c' has 1"):
        carve(np.arange(100), labels, ("a", "b", "c"), 0.1, (0,), "add images")


def test_a_folder_without_a_test_gets_one_that_no_seed_moves(tmp_path):
    flat = write_images(tmp_path / "flat", {"a": 20, "b": 20})
    one, other = folder(flat), folder(flat, split_seed=7)
    assert one.sizes == {"train": 29, "validation": 3, "test": 8} and one.spec.name == "folder"
    assert rows(one)["test"] == rows(other)["test"] and rows(one)["validation"] != rows(other)["validation"]


def test_val_beside_test_validates_and_alone_is_the_test(root):
    write_images(root / "val", {"cat": 3, "dog": 3}, seed=5)
    assert folder(root).sizes == {"train": 50, "validation": 6, "test": 10}
    assert folder(root, validation=0).sizes == {"train": 50, "validation": 0, "test": 10}
    shutil.rmtree(root / "test")
    assert folder(root).sizes == {"train": 45, "validation": 5, "test": 6}


def test_grey_stays_grey_only_where_all_are(tmp_path):
    grey = write_images(tmp_path / "grey", {"a": 10, "b": 10}, mode="L")
    assert folder(grey).spec.channels == 1
    write_images(grey, {"b": 10})
    assert folder(grey).spec.channels == 3


def test_image_size_resizes_the_shorter_side_and_crops(tmp_path):
    wide = write_images(tmp_path / "wide", {"a": 10, "b": 10}, size=(12, 6))
    data = folder(wide, image_size=6)
    data.prepare()
    original = np.asarray(Image.open(wide / "a" / "000.png"))[:, 3:9]
    assert np.array_equal(data._collection.images[0].permute(1, 2, 0), original)
    assert folder(wide, image_size=4, resize=5, augment=None).spec.image_size == 4


# What is kept on disk


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
    write_images(root / "train", {"cat": 1}, seed=8)
    others.append(fingerprint())
    others.append(fingerprint(samples=20))
    others.append(fingerprint(samples=20, split_seed=1))
    relabelled = folder(root)
    relabelled.prepare()
    relabelled._collection = replace(relabelled._collection, labels=1 - relabelled._collection.labels)
    others.append(relabelled.fingerprint)
    assert len({one, *others}) == len(others) + 1


def decoded(root):
    (path,) = (root.parent / "store" / "data").glob("*/images.npy")
    return path


def test_images_are_decoded_once(root, monkeypatch, tmp_path):
    first = folder(root)
    pixels = first.spec and first._collection.images.clone()
    monkeypatch.setattr(images.folder, "read_image", lambda *_: pytest.fail("decoded again"))
    shutil.copytree(root, tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(images.folder, "hash_files", lambda *_: pytest.fail("read again"))
        again = folder(root)
        assert torch.equal(again._collection.images if again.spec else None, pixels)
    write_cache = root.parent / "store"
    monkeypatch.setattr(images.folder, "_look", lambda _: {"content": None, "channels": 3, "size": [6, 6]})
    moved = folder(tmp_path / "moved", cache_dir=write_cache)
    moved.prepare()
    assert moved.fingerprint == first.fingerprint and decoded(root)


@pytest.mark.parametrize("damage", ["cut", "foreign", "text", "gone"])
def test_a_damaged_cache_is_built_again(root, damage):
    first = folder(root)
    first.prepare()
    pixels, path = first._collection.images.clone(), decoded(root)
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
    assert torch.equal(second._collection.images, pixels)
    assert not list(path.parents[1].glob(".decoding-*"))


def test_a_changed_file_is_seen(root):
    before = folder(root).fingerprint
    path = root / "test" / "cat" / "000.png"
    size, pixels = path.stat().st_size, np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    os.utime(path, (1, 1))
    assert folder(root).fingerprint != before and abs(path.stat().st_size - size) < 20


# What the person at the keyboard is told


def complaint(action, *parts):
    with pytest.raises(UserError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message


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


def test_bad_numbers(tmp_path, root):
    for numbers, mend in [
        ({"validation": 1.0}, "data.validation=0.1"),
        ({"validation": -0.1}, "data.validation=0.1"),
        ({"split_seed": -1}, "data.split_seed=0"),
        ({"view_seed": -1}, "data.view_seed=0"),
        ({"views": 0}, "data.views=8"),
        ({"mean": [0.5]}, "data.std=null"),
        ({"augment": {"mixup": 1}}, "~data.augment.mixup"),
        ({"augment": {"resized_crop": 0.1}}, "data.augment.resized_crop=0"),
    ]:
        complaint(lambda numbers=numbers: digits(tmp_path, **numbers), mend)
    for numbers, mend in [
        ({"validation": 0.999}, "data.validation=0"),
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
    complaint(lambda: digits(tmp_path, views=3).configure(8, 0, views=2), "data.views=")
    complaint(lambda: Loader(tensors(), 2, seed=0, world=4), "recipe.batch_size=8")


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
    assert not list((root.parent / "store" / "data").glob(".decoding-*"))


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
    assert data.sizes == {"train": 90, "validation": 10, "test": 20} and data.spec.classes == tuple("abcdefghij")
    images_in_order = torch.cat([batch.views[0] for batch in data.test_dataloader()])
    assert np.array_equal(images_in_order, pixels[5])


def test_every_config_names_what_its_class_takes():
    found = sorted(path.stem for path in CONF.glob("*.yaml"))
    assert {"cifar10", "cifar100", "digits", "folder", "imagenet"} <= set(found)
    for name in found:
        config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        target = getattr(images, config.pop("_target_").rpartition(".")[2])
        inits = [
            cls.__init__ for cls in target.__mro__ if cls.__module__.startswith("distillab") and "__init__" in vars(cls)
        ]
        known = {key for init in inits for key in inspect.signature(init).parameters} - {"self", "common"}
        assert set(config) == known and config["name"] == name
        assert images.ImageData.__init__ in inits and config["cache_dir"] == "${paths.store}"
