"""Views made from image files, with and without workers."""

import gc
import random

import numpy as np
import pytest
import torch
from helpers.data_checks import AUGMENT, STRONG, cats_and_dogs, folder, indices
from PIL import Image


@pytest.fixture
def root(tmp_path):
    return cats_and_dogs(tmp_path)


@pytest.mark.parametrize("augment", [AUGMENT, {"resized_crop": 0.3, "flip": True}])
def test_workers_change_nothing(root, augment):
    runs = []
    for workers in (0, 2):
        numbers = {"augment": augment | {"strong": STRONG}, "image_size": 6}
        data = folder(root, memory_budget=0, workers=workers, **numbers).configure(16, 1, num_views=2)
        loader = data.train_dataloader()
        batches = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches += list(loader)
        runs.append(batches)
    for one, two in zip(*runs, strict=True):
        assert (
            torch.equal(one.index, two.index)
            and torch.equal(one.labels, two.labels)
            and one.view_number == two.view_number
        )
        assert len(one.pixels) == 2 and one.augmented
        assert all(torch.equal(a, b) for a, b in zip(one.pixels, two.pixels, strict=True))
    assert not torch.equal(runs[0][0].pixels[0], runs[0][0].pixels[1])
    assert runs[0][0].pixels[0].dtype == torch.uint8 and runs[0][0].pixels[0].shape == (16, 3, 6, 6)
    assert {batch.view_number for batch in runs[0]} == {0, 1}


def test_a_file_view_does_not_depend_on_the_batch_or_the_runs_generators(root):
    views = folder(root, memory_budget=0).configure(8, 0).train_dataloader().source
    once = views[5, 3].views[0]
    torch.manual_seed(9)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert torch.equal(views[5, 3].views[0], once)
    assert any(not torch.equal(views[5, number].views[0], once) for number in range(4, 8))
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
        assert torch.equal(one.pixels[0], two.pixels[0]) and torch.equal(one.labels, two.labels)
    original = np.asarray(Image.open(root / "test" / "dog" / "005.png"))
    assert np.array_equal(one.pixels[0][-1].permute(1, 2, 0), original)
    assert decoded.info == read.info


def test_the_second_view_of_a_file_is_strong_and_the_first_is_that_of_one_view(root):
    numbers = {"memory_budget": 0, "augment": {"strong": STRONG}}
    one, two = (folder(root, **numbers).configure(8, 0, views).train_dataloader().source for views in (1, 2))
    strong = folder(root, **numbers).augment
    for index in range(12):
        (weak,) = one[index, 3].views
        first, second = two[index, 3].views
        assert torch.equal(first, weak)
        assert torch.equal(second, strong(weak[None], torch.tensor([index]), 3, view=1)[0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_places_and_pixels_of_a_batch_belong_together_when_its_worker_is_gone(tmp_path, workers):
    for row in range(120):  # every pixel of an image is its row in the collection
        place = tmp_path / "images" / "ab"[row // 60]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), row, dtype=np.uint8)).save(place / f"{row:03}.png")
    data = folder(tmp_path / "images", memory_budget=0, workers=workers, augment=None).configure(16, 1)
    rows, loader = data.rows["train"], data.train_dataloader()
    batches, expected = [], []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        expected += [index.numpy() for index in loader.sampler.batches()]
        batches += list(loader)
    del loader
    gc.collect()  # ends the workers
    assert len(batches) == len(expected) > 6
    for batch, index in zip(batches, expected, strict=True):
        for seen in (batch, batch.to("cpu")):
            assert np.array_equal(seen.places, index) and np.array_equal(seen.index.numpy(), index)
            assert np.array_equal(seen.pixels[0].amin((1, 2, 3)), rows[index])
            assert np.array_equal(seen.pixels[0].amax((1, 2, 3)), rows[index])
