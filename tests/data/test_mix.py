"""Mixup and CutMix: Beta quantiles, masks, purity of a mixed view, labels, and who may learn from them."""

import pytest
import torch
from helpers.data_checks import cats_and_dogs, complaint, digits, folder
from helpers.fits import SHAPE, strategy, trainer
from helpers.small_run import run

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.data.images.augment import Augment
from distillab.data.images.image_batch import TensorViews
from distillab.data.images.mix import beta, outside_box, partners, shares
from distillab.data.seeded import uniform
from distillab.strategies.base import Term

CHANCE = torch.arange(1000) / 1000
BOTH = {"crop": 1, "mixup": 0.2, "cutmix": 1.0}
MIXED = [BOTH, {"crop": 1, "mixup": 0.4}, {"cutmix": 1.0}]


def mixed(tmp_path, augment, **numbers):
    return digits(tmp_path, augment=augment, samples=256, **numbers)


def prepared(data, index, number=3, views=1):
    """Chosen samples as a step of epoch `number` sees them."""
    source = data.configure(64, 0, views).train_dataloader().source
    return data.configure(64, 0, views).on_after_batch_transfer(source.batch(torch.as_tensor(index), number))


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: torch.asin(x.sqrt()) * 2 / torch.pi),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5),
    ],
)
def test_quantiles_invert_the_closed_form(alpha, distribution):
    quantiles = beta(CHANCE, alpha)
    assert quantiles.min() >= 0 and quantiles.max() <= 1
    torch.testing.assert_close(distribution(quantiles.double()), CHANCE.double(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.8, 8.0, 100.0])
def test_coefficients_have_the_moments_of_beta(alpha):
    share = shares(Augment(mixup=alpha), torch.arange(200_000), 1, 8)[1].double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert share.mean().item() == pytest.approx(0.5, abs=4 * (variance / 200_000) ** 0.5)
    assert share.var().item() == pytest.approx(variance, rel=0.02)


def test_the_box_equals_a_loop_over_pixels():
    share, row, column = (uniform(0, 0, torch.arange(50), stream) for stream in range(3))
    for kept, y, x, mask in zip(share, row, column, outside_box(share, row, column, 9), strict=True):
        side = int((1 - kept).sqrt() * 9)
        top, left = int(y * 9) - side // 2, int(x * 9) - side // 2
        for place in range(81):
            inside = top <= place // 9 < top + side and left <= place % 9 < left + side
            assert mask[place // 9, place % 9] == (0 if inside else 1)


@pytest.mark.parametrize("augment", MIXED)
def test_a_batch_equals_its_samples_one_by_one(tmp_path, augment):
    data = mixed(tmp_path, augment | {"strong": {"operations": 2, "magnitude": 5, "cutout": 0.25}})
    index = torch.randperm(256, generator=torch.Generator().manual_seed(0))[:64]
    whole = prepared(data, index, views=2)
    for place, sample in enumerate(index):
        alone = prepared(data, [sample], views=2)
        assert all(torch.equal(one[0], many[place]) for one, many in zip(alone.pixels, whole.pixels, strict=True))
        assert torch.equal(alone.labels[0], whole.labels[place])
    assert torch.equal(prepared(data, index).pixels[0], whole.pixels[0])
    assert not torch.equal(prepared(data, index, number=4).labels, whole.labels)
    other = mixed(tmp_path, augment, view_seed=1)
    assert not torch.equal(prepared(other, index).labels, whole.labels)


def test_mixed_views_are_the_weak_views_of_both(tmp_path):
    plain, index = mixed(tmp_path, {"crop": 1}), torch.arange(256)
    weak = prepared(plain, index)
    partner = partners(0, 3, index, 256)
    other = prepared(plain, partner)
    kinds = set()
    for augment in MIXED:
        batch = prepared(mixed(tmp_path, {"crop": 1} | augment), index)
        own, share = shares(Augment.of({"crop": 1} | augment), index, 3, 8)
        torch.testing.assert_close(batch.pixels[0], own * weak.pixels[0] + (1 - own) * other.pixels[0])
        torch.testing.assert_close(own.mean((1, 2, 3)), share[:, 0])  # labels are shared as the pixels are
        torch.testing.assert_close(batch.labels.sum(1), torch.ones(256))
        expected = torch.zeros(256, 10)
        for row in range(256):
            expected[row, weak.labels[row]] += share[row, 0]
            expected[row, other.labels[row]] += 1 - share[row, 0]
        torch.testing.assert_close(batch.labels, expected)
        cut = ((own == 0) | (own == 1)).flatten(1).all(1).float().mean()
        kinds.add("coin" if 0.4 < cut < 0.7 else "cutmix" if cut == 1 else "mixup")
    assert kinds == {"coin", "cutmix", "mixup"}


def test_partners_come_evenly_from_the_whole_split():
    found = partners(0, 0, torch.arange(100_000), 100)
    counts = found.bincount(minlength=100)
    assert len(counts) == 100 and ((counts - 1000) ** 2 / 1000).sum() < 160
    index = torch.arange(100)
    assert not torch.equal(partners(0, 0, index, 100), partners(0, 1, index, 100))
    assert not torch.equal(partners(0, 0, index, 100), partners(1, 0, index, 100))


def test_off_is_as_if_it_were_not_there(tmp_path):
    without, off = (mixed(tmp_path, {"crop": 1} | more) for more in ({}, {"mixup": 0, "cutmix": 0.0}))
    assert off.fingerprint == without.fingerprint
    assert type(off.configure(64, 0).train_dataloader().source) is TensorViews
    batch = prepared(off, torch.arange(64))
    assert torch.equal(batch.pixels[0], prepared(without, torch.arange(64)).pixels[0])
    assert batch.labels.dtype == torch.int64
    prints = [mixed(tmp_path, {"crop": 1} | more).fingerprint for more in ({"mixup": 1}, {"mixup": 0.2}, {"cutmix": 1})]
    assert len({without.fingerprint, *prints}) == 4
    assert mixed(tmp_path, {"crop": 1, "mixup": 1.0}).fingerprint == prints[0]


def test_evaluation_is_never_mixed(tmp_path):
    data, plain = (mixed(tmp_path, augment).configure(64, 0) for augment in (BOTH, {"crop": 1}))
    for split in ("train", "validation", "test"):
        for one, other in zip(data.evaluation_dataloader(split), plain.evaluation_dataloader(split), strict=True):
            one, other = data.on_after_batch_transfer(one), plain.on_after_batch_transfer(other)
            assert torch.equal(one.pixels[0], other.pixels[0]) and torch.equal(one.labels, other.labels)


def test_bad_numbers_are_refused():
    for alpha in (-1, True, "much", float("inf"), float("nan")):
        complaint(lambda alpha=alpha: Augment.of({"mixup": alpha}), "data.augment.mixup=0")
        complaint(lambda alpha=alpha: Augment.of({"cutmix": alpha}), "data.augment.cutmix=0")


def from_folder(root, augment, **how):
    """The batches of an epoch, prepared, of images in memory (`how` is empty) or in files."""
    data = folder(root, augment=augment, **how).configure(16, 1, num_views=2 if "strong" in augment else 1)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    return [data.on_after_batch_transfer(batch.to("cpu")) for batch in loader]


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_files_are_mixed_as_decoded_images_are(tmp_path, augment):
    """Bit for bit, where no crop or flip is drawn; in both views, and with workers."""
    root = cats_and_dogs(tmp_path)
    augment |= {"strong": {"operations": 1, "magnitude": 10, "cutout": 0.5}}
    decoded = from_folder(root, augment)
    for workers in (0, 2):
        for one, other in zip(decoded, from_folder(root, augment, memory_budget=0, workers=workers), strict=True):
            assert torch.equal(one.index, other.index) and torch.equal(one.labels, other.labels)
            assert all(torch.equal(a, b) for a, b in zip(one.pixels, other.pixels, strict=True))
            assert other.partners is None and ((other.labels > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("crop", [{"crop": 2, "flip": True}, {"resized_crop": 0.3, "flip": True}])
def test_a_mixed_file_is_the_weak_views_of_both(tmp_path, crop):
    root = cats_and_dogs(tmp_path)
    files = {"memory_budget": 0, "workers": 0, "image_size": 6}
    data = folder(root, augment=crop, **files).configure(16, 1)
    weak = data.train_dataloader().source
    for batch in from_folder(root, crop | {"mixup": 0.4}, **files):
        own, share = shares(Augment.of({"mixup": 0.4}), batch.index, 3, 6)
        others = partners(0, 3, batch.index, len(weak))
        for row, (index, other) in enumerate(zip(batch.index.tolist(), others.tolist(), strict=True)):
            one, two = (weak[place, 3].views[0].float() / 255 for place in (index, other))
            torch.testing.assert_close(batch.pixels[0][row], own[row] * one + (1 - own[row]) * two)
            expected = torch.zeros(2)
            expected[weak.labels[index]] += share[row, 0]
            expected[weak.labels[other]] += 1 - share[row, 0]
            torch.testing.assert_close(batch.labels[row], expected)


def test_terms_that_read_neither_labels_nor_index_take_mixed_samples():
    class Blind(Term):
        needs = ("student.logits",)

    class Labelled(Blind):
        needs = ("student.logits", "batch.labels")

    class Soft(Labelled):
        soft_labels = True

    class Softer(Soft):
        pass

    class Indexed(Term):
        needs = ("batch.index",)

    assert [term.soft_labels for term in (Blind, Labelled, Soft, Softer, Indexed)] == [True, False, True, True, False]


@pytest.mark.parametrize("name", ["crd", "dkd", "nd"])
def test_a_term_that_cannot_is_named_before_anything_is_trained(tmp_path, network, name):
    message = f"strategy.{name} .*data.augment.mixup=0"
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, f"strategy={name}", "data.augment.mixup=0.2")
    assert "\n" not in str(error.value) and not list((tmp_path / "store").rglob("*.safetensors"))
    data = mixed(tmp_path, BOTH).configure(64, 0)
    module = Distillation(network(), network(1, 14), strategy(name), input_shape=SHAPE)
    with pytest.raises(UserError, match=message):
        trainer(1).fit(module, datamodule=data)


@pytest.mark.parametrize("name", ["kd", "wsld"])
def test_a_student_learns_from_mixed_samples(tmp_path, network, name):
    data = mixed(tmp_path, BOTH).configure(64, 0)
    module = Distillation(network(), network(1, 14), strategy(name), input_shape=SHAPE)
    engine = trainer(3)
    losses = []
    epoch_end = module.on_train_epoch_end
    module.on_train_epoch_end = lambda: (losses.append(module.mean_losses()["ce"].item()), epoch_end())
    engine.fit(module, datamodule=data)
    assert engine.global_step == 12 and losses[-1] < losses[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_coefficients_are_the_same_on_the_gpu():
    index, augment = torch.arange(1000), Augment(mixup=0.2, cutmix=1.0)
    for one, other in zip(shares(augment, index, 2, 32), shares(augment, index.cuda(), 2, 32), strict=True):
        assert torch.equal(one, other.cpu())
