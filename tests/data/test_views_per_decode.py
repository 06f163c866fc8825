"""Several views of one decoding: what an epoch shows, how often a file is read, and what the teacher's cache holds."""

from collections import Counter
from itertools import chain

import pytest
import torch
from helpers.cache_settings import settings, typed
from helpers.data_checks import STRONG, cats_and_dogs, complaint, folder, indices, write_images
from helpers.fits import SHAPE, strategy

from distillab.data.images import file_views
from distillab.data.loader import Order
from distillab.models.image_model import ImageModel
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers import cached
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.shards import View

FILES = {"memory_budget": 0, "workers": 0, "image_size": 6, "mean": [0.5] * 3, "std": [0.5] * 3}


def shown(size, epochs, views, batch_size=8, seed=3, **how):
    """Each epoch's batches, as indices and the number of their view."""
    order, found = Order(size, batch_size, seed, views_per_decode=views, **how), []
    for epoch in range(epochs):
        order.set_epoch(epoch)
        found.append([(index.tolist(), number) for index, numbers in order.blocks() for number in numbers])
    return found


@pytest.mark.parametrize("size", [1, 7, 16, 17, 18, 50, 64, 71])
@pytest.mark.parametrize("views", [2, 3, 4])
def test_a_group_of_epochs_shows_every_sample_in_each_of_its_views_once(size, views):
    epochs, usual = shown(size, 2 * views, views), shown(size, 2 * views, 1)
    for first in (0, views):
        group = epochs[first : first + views]
        seen = Counter((sample, number) for epoch in group for index, number in epoch for sample in index)
        assert seen == {(sample, first + view): 1 for sample in range(size) for view in range(views)}
    for epoch, other in zip(epochs, usual, strict=True):
        assert [len(index) for index, _ in epoch] == [len(index) for index, _ in other]
        assert all(len(set(index)) == len(index) for index, _ in epoch)  # no file stands twice in a batch
    orders = {tuple(sample for index, _ in epoch for sample in index) for epoch in epochs}
    assert size < 7 or len(orders) > 1


def test_batches_in_turn_show_the_same_samples():
    epochs = shown(8 * 9, 4, 4)  # eight batches and the last one
    for number, epoch in enumerate(epochs):
        for block in (epoch[:4], epoch[4:8]):
            assert len({tuple(index) for index, _ in block}) == 1 and [view for _, view in block] == [0, 1, 2, 3]
        assert epoch[8][1] == number
    assert len({tuple(index) for epoch in epochs for index, _ in epoch}) == 9
    assert {view for epoch in shown(72, 12, 4, cycle=8)[8:] for _, view in epoch} == {0, 1, 2, 3}


def test_ranks_share_a_block_and_a_resume_goes_on_inside_one():
    (whole,), parts = shown(52, 1, 4), [shown(52, 1, 4, rank=rank, world=2)[0] for rank in range(2)]
    for (index, number), *shares in zip(whole, *parts, strict=True):
        assert [*chain(*(share for share, _ in shares))] == index and {view for _, view in shares} == {number}
    for start in range(7):
        order = Order(52, 8, 3, views_per_decode=4)
        order.start = start
        left = [(index.tolist(), number) for index, numbers in order.blocks() for number in numbers]
        assert left == whole[start:]
        assert [index.tolist() for index in order.batches()] == [index for index, _ in left]


def test_classes_are_balanced_in_a_group_of_epochs():
    labels = torch.tensor([0] * 40 + [1] * 10)
    drawn = torch.tensor([s for epoch in shown(50, 400, 4, labels=labels) for index, _ in epoch for s in index])
    assert labels[drawn].float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.fixture
def root(tmp_path):
    return cats_and_dogs(tmp_path)


def epochs_of(data, epochs):
    loader, found = data.train_dataloader(), []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found.append(list(loader))
    return found


@pytest.mark.parametrize("augment", [{"resized_crop": 0.3, "flip": True}, {"crop": 2, "mixup": 0.4}])
def test_views_are_those_of_one_view_per_decoding_whoever_reads_them(root, augment):
    numbers = FILES | {"augment": augment | {"strong": STRONG}, "views_per_decode": 3}
    data = folder(root, **numbers).configure(8, 1, num_views=2)
    source, epochs = data.train_dataloader().source, epochs_of(data, 3)
    assert len(epochs[0]) == 6 and sum(len(batch) for batch in epochs[0]) == data.sizes["train"] == 45
    for batch in chain(*epochs):
        for row, index in enumerate(batch.index.tolist()):
            alone = source[index, batch.view_number]
            assert all(torch.equal(many[row], one) for many, one in zip(batch.pixels, alone.views, strict=True))
    threads = epochs_of(folder(root, **numbers | {"workers": 2}).configure(8, 1, num_views=2), 3)
    for one, other in zip(chain(*epochs), chain(*threads), strict=True):
        assert torch.equal(one.index, other.index) and one.view_number == other.view_number
        assert all(torch.equal(a, b) for a, b in zip(one.pixels, other.pixels, strict=True))
        if data.mixes:
            assert torch.equal(one.partners.index, other.partners.index)
            assert torch.equal(one.partners.pixels[0], other.partners.pixels[0])


@pytest.mark.parametrize("mixup", [0, 0.4])
def test_a_file_is_decoded_once_for_all_its_views(root, monkeypatch, mixup):
    reads, read = Counter(), file_views.read_image
    monkeypatch.setattr(file_views, "read_image", lambda path, *how: (reads.update([path]), read(path, *how))[1])
    data = folder(root, **FILES, augment={"mixup": mixup}, views_per_decode=4).configure(5, 1)
    loader = data.train_dataloader()
    first, second, *others = epochs_of(data, 1)[0]
    assert len(loader) == len(others) + 2 == 9
    files = 3 * 5  # two blocks of four batches, and the last batch
    if mixup:
        assert files < reads.total() <= 2 * files and torch.equal(first.partners.index, second.partners.index)
    else:
        assert reads.total() == len(reads) == files


def test_a_resume_inside_a_block_sees_the_batches_left(root):
    data = folder(root, **FILES, views_per_decode=4).configure(5, 1)
    expected = [(batch.index.tolist(), batch.view_number) for batch in data.train_dataloader()]
    loader = data.train_dataloader()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state, resumed = loader.state_dict(), data.train_dataloader()
    assert state == {"epoch": 0, "batches": 3}
    resumed.load_state_dict(state)
    assert [(batch.index.tolist(), batch.view_number) for batch in resumed] == expected[3:]


def test_it_is_known_and_refused_where_it_serves_nothing(root):
    one, same, four = (folder(root, **FILES, **more) for more in ({}, {"views_per_decode": 1}, {"views_per_decode": 4}))
    assert one.fingerprint == same.fingerprint != four.fingerprint
    assert indices(one.configure(8, 1).train_dataloader()) == indices(same.configure(8, 1).train_dataloader())
    assert indices(four.test_dataloader()) == indices(one.test_dataloader())
    complaint(folder(root, views_per_decode=4).prepare, "data.views_per_decode=1", "data.memory_budget=0")
    complaint(lambda: folder(root, **FILES, views_per_decode=0), "data.views_per_decode=4")
    complaint(lambda: folder(root, **FILES, views=6, views_per_decode=4), "data.views=8", "data.views=null")
    folder(root, **FILES, views=8, views_per_decode=4)


class Late:
    """The event of a copy off a GPU, made up: it has not arrived before somebody waits for it."""

    waited = 0

    def query(self):
        return False

    def synchronize(self):
        Late.waited += 1


@pytest.mark.parametrize("late", [False, True])
def test_the_teachers_answers_are_kept_by_their_own_views(network, tmp_path, monkeypatch, capsys, late):
    """Two groups of two epochs, of which the last is cut short: live, filled and replayed answers are the same."""
    if late:
        monkeypatch.setattr(cached, "to_host", lambda fields: (dict(fields), Late()))
    root = write_images(tmp_path / "images", {"a": 32, "b": 32}, size=SHAPE[1:], mode="L")
    files = {"memory_budget": 0, "workers": 0, "augment": {"crop": 2}}
    data = folder(root, **files, views_per_decode=2).configure(8, 1)
    samples = data.sizes["train"]
    opened, start = [], View.__init__
    monkeypatch.setattr(View, "__init__", lambda view, *how: (opened.append(1), start(view, *how))[1])

    def teacher():
        return FrozenTeacher(ImageModel(network(1, 14, 2), SHAPE))

    def teach(mode):
        config = settings(dtype="float32", mode=mode)
        config |= {"recipe": config["recipe"] | {"epochs": 3}}
        source, live = (
            with_cache(teacher(), Strategy.of(strategy("kd")), data, typed(config, tmp_path / "s")),
            teacher(),
        )
        for each in (source, live):
            each.request({"logits"})
        opened.clear()
        Late.waited = 0
        for batch in chain(*epochs_of(data, 3)):
            batch = data.on_after_batch_transfer(batch)
            waited = Late.waited
            assert torch.equal(source(batch)[0].logits, live(batch)[0].logits)
            waits.append(Late.waited - waited)
        source.flush()
        assert len(opened) == 4, "each view is opened once"
        return source.computed, source.replayed

    waits = []
    assert teach("auto") == (3 * samples, 0)
    assert sum(map(bool, waits)) == late, "the host waits once, before the second group's first batch"
    assert "3 epochs are no multiple of data.views_per_decode=2" in capsys.readouterr().out
    assert teach("require") == (0, 3 * samples)
