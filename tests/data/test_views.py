import pytest
import torch

from distillab.core.errors import UserError
from distillab.data.images.augment import Augment, horizontal_flip, random_crop
from distillab.data.seeded import Stream, random_bits, uniform


def images(count=12, channels=3, size=8):
    return torch.randint(1, 256, (count, channels, size, size), generator=torch.Generator().manual_seed(1)).byte()


def splitmix64(state):
    mask = 2**64 - 1
    word = state & mask
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
    return word ^ (word >> 31)


@pytest.mark.parametrize(("seed", "number", "stream"), [(0, 0, 0), (7, 3, 2), (2**63 - 1, 10**6, 4)])
def test_bits_equal_splitmix64_in_plain_integers(seed, number, stream):
    index = torch.tensor([0, 1, 2, 12345, 2**40])
    key = 0
    for word in (seed, number, stream):
        key = splitmix64((key ^ word) + 0x9E3779B97F4A7C15)
    expected = [splitmix64(key + (int(i) + 1) * 0x9E3779B97F4A7C15) for i in index]
    assert [int(bits) % 2**64 for bits in random_bits(seed, number, index, stream)] == expected


def test_uniform_is_uniform_and_streams_seeds_and_numbers_are_independent():
    index = torch.arange(50_000)
    draws = [uniform(0, 0, index, 1), uniform(1, 0, index, 1), uniform(0, 1, index, 1), uniform(0, 0, index, 2)]
    for draw in draws:
        assert draw.dtype == torch.float32 and draw.min() >= 0 and draw.max() < 1
        counts = torch.histc(draw, bins=100, min=0, max=1)
        assert ((counts - 500) ** 2 / 500).sum() < 160  # chi-square, 99 degrees of freedom: p < 1e-4
        assert abs(torch.corrcoef(torch.stack([draw[1:], draw[:-1]]))[0, 1]) < 0.02
    assert (torch.corrcoef(torch.stack(draws)) - torch.eye(4)).abs().max() < 0.02


def test_crop_equals_a_loop_over_images():
    batch, index, padding = images(), torch.arange(12) * 7, 2
    cropped = random_crop(batch, padding, lambda stream: uniform(5, 3, index, stream))
    tops, lefts = (uniform(5, 3, index, stream) * 5 for stream in (Stream.CROP_ROW, Stream.CROP_COLUMN))
    for image, result, top, left in zip(batch, cropped, tops.long(), lefts.long(), strict=True):
        padded = torch.zeros(3, 12, 12, dtype=torch.uint8)
        padded[:, 2:10, 2:10] = image
        assert torch.equal(result, padded[:, top : top + 8, left : left + 8])


def test_crop_reaches_every_offset():
    marked = torch.zeros(500, 1, 4, 4, dtype=torch.uint8)
    marked[:, :, 1, 1] = 1
    index = torch.arange(500)
    cropped = random_crop(marked, 1, lambda stream: uniform(0, 0, index, stream))
    assert {tuple(place) for place in cropped.nonzero()[:, 2:].tolist()} == {(r, c) for r in range(3) for c in range(3)}


def test_flip_equals_a_loop_over_images():
    batch, index = images(200), torch.arange(200)
    flipped = horizontal_flip(batch, lambda stream: uniform(0, 9, index, stream))
    mirrored = uniform(0, 9, index, Stream.FLIP) < 0.5
    for image, result, mirror in zip(batch, flipped, mirrored, strict=True):
        assert torch.equal(result, torch.from_numpy(image.numpy()[:, :, ::-1].copy()) if mirror else image)
    assert 70 < mirrored.sum() < 130


def test_a_view_depends_on_its_sample_and_number_alone():
    batch, index, augment = images(), torch.arange(12), Augment(crop=2, flip=True, view_seed=4)
    before = torch.get_rng_state()
    whole = augment(batch, index, 3)
    mixed = torch.randperm(12, generator=torch.Generator().manual_seed(0))[:5]
    assert torch.equal(augment(batch[mixed], index[mixed], 3), whole[mixed])
    assert torch.equal(augment(batch, index, 3), whole)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(augment(batch, index, 4), whole)
    assert not torch.equal(Augment(crop=2, flip=True, view_seed=5)(batch, index, 3), whole)
    assert whole.dtype == torch.uint8 and whole.shape == batch.shape


def test_no_augmentation_is_the_image():
    assert torch.equal(Augment()(images(), torch.arange(12), 1), images())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_are_the_same_on_the_gpu():
    batch, index, augment = images(), torch.arange(12), Augment(crop=2, flip=True)
    assert torch.equal(augment(batch.cuda(), index.cuda(), 3).cpu(), augment(batch, index, 3))


@pytest.mark.parametrize(
    ("numbers", "mend"),
    [
        ({"mosaic": 1}, 'data.augment has no "mosaic"'),
        ({"crop": -1}, "data.augment.crop=0"),
        ({"crop": 1.5}, "data.augment.crop=0"),
        ({"flip": "yes"}, "data.augment.flip=false"),
        ({"resized_crop": 2}, "data.augment.resized_crop=0"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(numbers, mend):
    with pytest.raises(UserError) as error:
        Augment.of(numbers)
    assert mend in str(error.value) and "\n" not in str(error.value)
