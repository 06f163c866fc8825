"""Order, and the loader: each epoch's batches, on every rank, also after a resume."""

import lightning
import pytest
import torch
from helpers.data_checks import complaint, digits, indices

from distillab.data.batch import AS_STORED, IGNORED, Batch
from distillab.data.images.image_batch import TensorViews
from distillab.data.loader import Loader, Order


def tensors(count=50, augmented=False):
    return TensorViews(
        torch.arange(count).byte().view(-1, 1, 1, 1), torch.arange(count), torch.arange(count), augmented
    )


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
    order = Order(4, 2, 0, cycle=2)
    numbers = []
    for epoch in range(4):
        order.set_epoch(epoch)
        numbers.append([found for _, found in order.blocks()])
    assert numbers == [[[0], [0]], [[1], [1]]] * 2
    order.cycle = None
    assert [found for _, found in order.blocks()] == [[3], [3]]
    evaluation = Order(4, 2, None)
    evaluation.set_epoch(3)
    assert [found for _, found in evaluation.blocks()] == [[AS_STORED], [AS_STORED]]


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
            (self.current_epoch, batch_idx, batch.view_number, batch.index.tolist(), batch.pixels[0].sum().item())
        )
        return self.weight * batch.pixels[0].mean()

    def validation_step(self, batch, batch_idx):
        assert batch.view_number == AS_STORED and batch.pixels[0].dtype == torch.float32

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
    data = digits(tmp_path, validation=validation).configure(400, seed=3, num_views=1)
    length = len(data.train_dataloader())
    saves = [SaveAt(step, tmp_path / f"{step}.ckpt") for step in (1, length + 1, 2 * length)]
    unbroken = fit(data, tmp_path, *saves)
    assert [epoch for epoch, *_ in unbroken.seen] == [epoch for epoch in range(3) for _ in range(length)]
    for save in saves:
        resumed = fit(data, tmp_path, checkpoint=save.path)
        assert resumed.seen == unbroken.seen[save.step :]
        assert torch.equal(resumed.weight, unbroken.weight)


def test_a_batch_smaller_than_the_devices_is_refused():
    complaint(lambda: Loader(tensors(), 2, seed=0, world=4), "recipe.batch_size=8")


def test_a_batch_knows_the_labels_of_its_optimiser_step(tmp_path):
    """256 samples in three batches, two of them to a step; after a resume only the batches that are left count."""
    data = digits(tmp_path, samples=256)
    loader = data.configure(96, 0, accumulate=2).train_dataloader()
    assert [(len(batch), batch.step_rows) for batch in loader] == [(96, 192), (96, 192), (64, 64)]
    loader.load_state_dict({"epoch": 0, "batches": 1})
    assert [(len(batch), batch.step_rows) for batch in loader] == [(96, 96), (64, 64)]
    loader.load_state_dict({"epoch": 0, "batches": 2})
    assert [batch.step_rows for batch in loader] == [64]
    parts = [
        Loader(loader.source, 95, seed=0, rank=rank, world=2, accumulate=3).__iter__() for rank in (0, 1)
    ]  # 95, 95 and 66 samples, shared out unevenly
    assert [[batch.step_rows for batch in part] for part in parts] == [[127] * 3, [129] * 3]
    limited = Loader(loader.source, 32, seed=0, accumulate=4, limit=6)
    assert [batch.step_rows for batch in limited] == [128] * 4 + [64] * 2, "the epoch ends inside a step"
    assert all(batch.step_rows is None for batch in data.configure(96, 0).train_dataloader())
    assert all(batch.step_rows is None for batch in data.evaluation_dataloader("train"))


def test_labels_that_no_loss_counts_are_no_rows():
    index = torch.arange(2)
    tokens = torch.tensor([[1, IGNORED, 2], [IGNORED, IGNORED, 0]])
    assert Batch([], {"labels": tokens}, index).rows == 3
    assert Batch([], {"labels": torch.full((2, 5), 0.2)}, index).rows == 2  # of mixed samples
    assert Batch([], {"labels": torch.tensor([-1, 4])}, index).rows == 2  # a label that a teacher fills


RARE = torch.tensor([0] * 40 + [2] * 8 + [5] * 2)  # class 1 is absent


def balanced(seed=0, epoch=0, **how):
    order = Order(50, 8, seed, labels=RARE, **how)
    order.set_epoch(epoch)
    return order


def test_a_balanced_order_draws_every_class_as_often_and_its_samples_evenly():
    drawn = torch.cat([torch.cat(list(balanced(epoch=epoch).batches())) for epoch in range(400)])
    assert len(drawn) == 50 * 400 and drawn.min() >= 0
    shares = RARE[drawn].bincount(minlength=6) / len(drawn)
    torch.testing.assert_close(shares[[0, 2, 5]], torch.full((3,), 1 / 3), atol=0.01, rtol=0)
    each = drawn.bincount(minlength=50) / len(drawn)
    torch.testing.assert_close(each, 1 / (3 * RARE.bincount()[RARE]), atol=0.01, rtol=0)


def test_a_balanced_order_is_the_same_after_a_resume_and_on_any_number_of_devices():
    whole = list(balanced(epoch=3).batches())
    parts = zip(*(balanced(epoch=3, rank=rank, world=2).batches() for rank in (0, 1)), strict=True)
    assert torch.equal(torch.cat([torch.cat(pair) for pair in parts]), torch.cat(whole))
    resumed = balanced(epoch=3)
    resumed.start = 4
    assert torch.equal(torch.cat(list(resumed.batches())), torch.cat(whole[4:]))
    assert not torch.equal(whole[0], next(balanced(epoch=4).batches())), "each epoch draws anew"
    assert not torch.equal(whole[0], next(balanced(seed=1, epoch=3).batches()))


def test_a_balanced_sampler_is_part_of_the_data_and_needs_all_labels(tmp_path):
    plain, even = digits(tmp_path), digits(tmp_path, sampler="balanced")
    assert plain.fingerprint != even.fingerprint
    drawn = torch.cat([batch.labels for batch in even.configure(64, 0).train_dataloader()])
    assert len(drawn) == even.sizes["train"]
    assert len(torch.cat([batch.index for batch in even.evaluation_dataloader("train")]).unique()) == len(drawn)
    complaint(lambda: digits(tmp_path, sampler="even"), "data.sampler must be one of balanced or null")
    for hidden in ({"labels": "teacher"}, {"labelled": 0.5}):
        some = digits(tmp_path, sampler="balanced", **hidden)
        complaint(
            lambda some=some: some.configure(64, 0), "needs the label of every training sample", "data.sampler=null"
        )
        some.labelled_only().configure(64, 0)
