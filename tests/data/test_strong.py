"""The strong view: every operation against Pillow, what is drawn, and that a view is its sample's alone."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from distillab.core.errors import UserError
from distillab.data.images import strong
from distillab.data.images.augment import Augment, horizontal_flip, random_crop
from distillab.data.images.strong import AFFINE, FILL, OPERATIONS, Strong, cutout, drawn_strength, operate
from distillab.data.seeded import Stream, uniform

SIDES = [(3, 8), (1, 8), (3, 32), (1, 33), (3, 96)]


def pictures(channels, side):
    """Noise, a soft gradient with few values, a flat image, and one with black and white in it."""
    generator = np.random.RandomState(side)
    noise = generator.randint(0, 256, (channels, side, side))
    ramp = np.add.outer(np.arange(side), np.arange(side)) * 60 // (2 * side) + 90
    soft = np.stack([ramp + 7 * channel for channel in range(channels)])
    extremes = np.where(generator.rand(channels, side, side) < 0.2, 255 * (noise > 127), soft)
    return torch.from_numpy(np.stack([noise, soft, np.full_like(soft, 77), extremes]).astype(np.uint8))


def pillow(image):
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def tensor(image):
    pixels = np.array(image)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def enhanced(kind):
    return lambda image, level, sign: kind(image).enhance(1 + sign * 0.9 * level)


IN_PILLOW = {
    "identity": lambda image, level, sign: image,
    "auto_contrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 255 - 255 * level),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, round(8 - 4 * level)),
    "brightness": enhanced(ImageEnhance.Brightness),
    "contrast": enhanced(ImageEnhance.Contrast),
    "color": enhanced(ImageEnhance.Color),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


def affine(image, angle=0.0, translate=(0, 0), shear=(0.0, 0.0), center=None):
    shear = [float(np.degrees(np.arctan(s))) for s in shear]
    numbers = {"interpolation": InterpolationMode.BILINEAR, "center": center}
    return tv.affine(image, angle, list(translate), 1.0, shear, **numbers)


IN_TORCHVISION = {
    "rotate": lambda image, level, sign: tv.rotate(image, sign * 30 * level, InterpolationMode.BILINEAR),
    "shear_x": lambda image, level, sign: affine(image, shear=(sign * 0.3 * level, 0), center=[0, 0]),
    "shear_y": lambda image, level, sign: affine(image, shear=(0, sign * 0.3 * level), center=[0, 0]),
    "translate_x": lambda image, level, sign: affine(
        image, translate=(int(sign * 150 / 331 * width(image) * level), 0)
    ),
    "translate_y": lambda image, level, sign: affine(
        image, translate=(0, int(sign * 150 / 331 * width(image) * level))
    ),
}


def width(image):
    return image.width if isinstance(image, Image.Image) else image.shape[-1]


def apply(images, name, level, sign):
    place = {"size": (len(images),), "device": images.device}
    kind = torch.full(fill_value=OPERATIONS.index(name), **place)
    levels = torch.full(fill_value=level, dtype=torch.float64, **place)
    return operate(images, kind, levels, torch.full(fill_value=sign > 0, **place))


def test_the_operations_are_those_of_randaugment():
    assert set(OPERATIONS) == set(IN_PILLOW) | set(IN_TORCHVISION) and len(OPERATIONS) == 14


@pytest.mark.parametrize(("channels", "side"), SIDES)
@pytest.mark.parametrize("name", IN_PILLOW)
def test_pixel_operations_equal_pillow(name, channels, side):
    images = pictures(channels, side)
    for level in (5 / 30, 10 / 30, 1.0):
        for sign in (-1, 1):
            for image, made in zip(images, apply(images, name, level, sign), strict=True):
                expected = tensor(IN_PILLOW[name](pillow(image), level, sign))
                # Pillow's table for auto-contrast is in floats, which now and then fall just short of a whole level.
                tolerance = 1 if name == "auto_contrast" else 0
                assert (made.int() - expected.int()).abs().max() <= tolerance, (name, level, sign)


@pytest.mark.parametrize(("channels", "side"), SIDES)
@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_affine_operations_equal_torchvision_and_pillow(name, channels, side):
    images = pictures(channels, side)
    whole = torch.full((1, channels, side, side), 255, dtype=torch.uint8)
    for level in (5 / 30, 10 / 30, 1.0):
        for sign in (-1, 1):
            made = apply(images, name, level, sign)
            expected = IN_TORCHVISION[name](images, level, sign)
            assert (made.int() - expected.int()).abs().max() <= 1, (name, level, sign)
            # Pillow does not blend with what lies outside: compare where nothing does.
            inside = apply(whole, name, level, sign)[0] == 255
            assert inside.float().mean() > 0.3
            for image, result in zip(images, made, strict=True):
                drawn = tensor(IN_TORCHVISION[name](pillow(image), level, sign))
                assert ((result.int() - drawn.int()).abs() * inside).max() <= 2, (name, level, sign)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 65)])
def test_a_strong_view_does_not_depend_on_its_batch(channels, side):
    images = pictures(channels, side).repeat(16, 1, 1, 1)
    index, augment = torch.arange(64) * 31, Augment(crop=2, flip=True, strong=Strong(operations=3), view_seed=4)
    before = torch.get_rng_state()
    whole = augment(images, index, 3, view=1)
    assert torch.equal(torch.get_rng_state(), before)
    singles = [augment(image[None], place[None], 3, view=1) for image, place in zip(images, index, strict=True)]
    assert torch.equal(torch.cat(singles), whole)
    mixed = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:23]
    assert torch.equal(augment(images[mixed], index[mixed], 3, view=1), whole[mixed])
    assert whole.dtype == torch.uint8 and whole.shape == images.shape
    assert not torch.equal(augment(images, index, 4, view=1), whole)


def test_the_strong_view_crops_and_flips_by_its_own_numbers():
    images, index = pictures(3, 32).repeat(8, 1, 1, 1), torch.arange(32)
    augment = Augment(crop=4, flip=True, strong=Strong(operations=0, cutout=0), view_seed=2)

    def draw(stream):
        return uniform(2, 7, index, stream + Stream.STRONG)

    made = augment(images, index, 7, view=1)
    assert torch.equal(made, horizontal_flip(random_crop(images, 4, draw), draw))
    assert not torch.equal(made, augment(images, index, 7))
    assert torch.equal(augment(images, index, 7), Augment(crop=4, flip=True, view_seed=2)(images, index, 7))


def test_operations_and_signs_are_drawn_evenly_and_apart(monkeypatch):
    seen = []
    monkeypatch.setattr(strong, "operate", lambda images, kind, level, up: seen.append((kind, up, level)) or images)
    count, index = 14 * 14 * 50, torch.arange(14 * 14 * 50)
    images = torch.zeros(count, 1, 1, 1, dtype=torch.uint8)
    Strong(operations=2, magnitude=10, cutout=0)(images, lambda stream: uniform(0, 0, index, stream))
    (first, up, level), (second, *_) = seen
    assert set(level.tolist()) == {1 / 3}
    counts = torch.bincount(first * 14 + second, minlength=196)
    assert ((counts - 50) ** 2 / 50).sum() < 280  # chi-square, 195 degrees of freedom: p < 1e-4
    assert torch.bincount(first, minlength=14).min() > 600  # of 700
    for kind in range(14):
        assert 0.4 < up[first == kind].float().mean() < 0.6


PUBLISHED = {  # operation in Pillow's words and the range of its number, out of which the two-view methods draw
    "auto_contrast": (lambda image, v: ImageOps.autocontrast(image), 0, 1),
    "equalize": (lambda image, v: ImageOps.equalize(image), 0, 1),
    "solarize": (ImageOps.solarize, 0, 256),
    "posterize": (lambda image, v: ImageOps.posterize(image, int(v)), 4, 8),
    "brightness": (lambda image, v: ImageEnhance.Brightness(image).enhance(v), 0.05, 0.95),
    "contrast": (lambda image, v: ImageEnhance.Contrast(image).enhance(v), 0.05, 0.95),
    "color": (lambda image, v: ImageEnhance.Color(image).enhance(v), 0.05, 0.95),
    "sharpness": (lambda image, v: ImageEnhance.Sharpness(image).enhance(v), 0.05, 0.95),
    "rotate": (lambda image, v: image.rotate(v), -30, 30),
    "shear_x": (lambda image, v: image.transform(image.size, Image.AFFINE, (1, v, 0, 0, 1, 0)), -0.3, 0.3),
    "shear_y": (lambda image, v: image.transform(image.size, Image.AFFINE, (1, 0, 0, v, 1, 0)), -0.3, 0.3),
    "translate_x": (lambda image, v: image.transform(image.size, Image.AFFINE, (1, 0, 32 * v, 0, 1, 0)), -0.3, 0.3),
    "translate_y": (lambda image, v: image.transform(image.size, Image.AFFINE, (1, 0, 0, 0, 1, 32 * v)), -0.3, 0.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_drawn_strength_changes_an_image_as_much_as_published(name):
    """The mean change of 500 images of soft colours, of each operation, against Pillow's with evenly spread numbers."""
    coarse = torch.rand(500, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    images = (torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1) * 255).byte()
    kind = torch.full((500,), OPERATIONS.index(name))
    made = operate(images, kind, *drawn_strength(kind, (torch.arange(500).double() + 0.5) / 500))
    apply_one, low, high = PUBLISHED[name]
    places = torch.randperm(500, generator=torch.Generator().manual_seed(4)).tolist()
    numbers = [low + (high - low) * (place + 0.5) / 500 for place in places]
    published = torch.stack([tensor(apply_one(pillow(x), v)) for x, v in zip(images, numbers, strict=True)])
    change, expected = ((one.int() - images.int()).abs().float().mean().item() for one in (made, published))
    # A whole number of pixels, of which we take the next smaller one.
    assert change == pytest.approx(expected, rel=0.15 if name.startswith("translate") else 0.06)


def test_the_strengths_are_drawn_anew_for_each_image_and_operation(monkeypatch):
    seen = []
    monkeypatch.setattr(strong, "operate", lambda images, kind, level, up: seen.append((kind, level, up)) or images)
    index = torch.arange(14000)
    Strong(cutout=0)(torch.zeros(14000, 1, 1, 1, dtype=torch.uint8), lambda stream: uniform(0, 0, index, stream))
    (kind, level, up), (_, other, _) = seen
    assert torch.corrcoef(torch.stack([level, other]))[0, 1].abs() < 0.05
    for name in ("rotate", "solarize", "shear_x"):
        own = level[kind == OPERATIONS.index(name)]
        assert torch.histc(own.float(), 10, 0, 1).min() > 60  # of 100 in each tenth
    bits = 8 - (4 * level[kind == OPERATIONS.index("posterize")]).round()
    assert bits.unique().tolist() == [4, 5, 6, 7] and torch.bincount(bits.int())[4:].min() > 200
    factor = 1 - 0.9 * level[kind == OPERATIONS.index("brightness")]
    assert 0.05 <= factor.min() < 0.07 and 0.93 < factor.max() <= 0.95
    assert not up[kind == OPERATIONS.index("brightness")].any()
    assert 0.4 < up[kind == OPERATIONS.index("rotate")].float().mean() < 0.6


def test_a_magnitude_fixes_all_strengths():
    images, index = pictures(3, 32).repeat(8, 1, 1, 1), torch.arange(32)
    one, other, drawn = (Strong(magnitude=m)(images, lambda s: uniform(0, 0, index, s)) for m in (10, 20, None))
    assert not torch.equal(one, other) and not torch.equal(one, drawn)
    assert Strong() == Strong(magnitude=None)


@pytest.mark.parametrize(("share", "side", "largest"), [(0.5, 32, 16), (0.25, 8, 2), (1.0, 5, 5)])
def test_cutout_leaves_one_grey_square_up_to_its_share(share, side, largest):
    index = torch.arange(6000)
    holes = cutout(torch.zeros(6000, 1, side, side, dtype=torch.uint8), share, lambda s: uniform(0, 1, index, s))[:, 0]
    assert set(holes.unique().tolist()) == {0, FILL}
    height, width = ((holes.amax(dim) > 0).sum(1) for dim in (2, 1))
    area = (holes > 0).sum((1, 2))
    assert torch.equal(area, height * width)  # a rectangle
    assert height.max() == width.max() == largest and area.min() == 0
    drawn = (uniform(0, 1, index, Stream.CUTOUT_SIDE) * (largest + 1)).long()
    assert (torch.maximum(height, width) <= drawn).all()  # an edge may cut it
    assert ((height == drawn) & (width == drawn)).float().mean() > 0.4
    assert torch.bincount(drawn, minlength=largest + 1).min() > 0.8 * 6000 / (largest + 1)
    assert (holes > 0).float().mean(0).min() > 0  # every pixel is hit


def test_every_image_size_and_every_magnitude():
    for channels, side in ((1, 8), (3, 224)):
        images, index = pictures(channels, side), torch.arange(4)
        for magnitude in (0, 10, 30):
            made = Strong(operations=14, magnitude=magnitude)(images, lambda s: uniform(0, 0, index, s))  # noqa: B023
            assert made.shape == images.shape and made.dtype == torch.uint8
        for name in OPERATIONS[5:]:
            assert torch.equal(apply(images, name, 0.0, 1), images), name


@pytest.mark.parametrize(
    ("numbers", "mend"),
    [
        ({"solarise": 1}, 'data.augment.strong has no "solarise"'),
        ({"operations": 1.5}, "data.augment.strong.operations=2"),
        ({"operations": 17}, "data.augment.strong.operations=2"),
        ({"magnitude": 31}, "data.augment.strong.magnitude=null"),
        ({"magnitude": True}, "data.augment.strong.magnitude=null"),
        ({"cutout": 16}, "data.augment.strong.cutout=0.5"),
        (True, "data.augment.strong=null"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(numbers, mend):
    with pytest.raises(UserError) as error:
        Augment.of({"strong": numbers})
    assert mend in str(error.value) and "\n" not in str(error.value)
    assert Augment.of({"strong": None}).strong is None and Augment.of({"strong": {}}).strong == Strong()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_strong_views_are_the_same_on_the_gpu():
    for channels, side in SIDES:
        images = pictures(channels, side)
        for name in OPERATIONS:
            made = [apply(images.to(device), name, 1 / 3, 1).cpu().int() for device in ("cpu", "cuda")]
            # Bilinear weights are floats, which devices may round apart.
            assert (made[0] - made[1]).abs().max() <= (1 if name in AFFINE else 0), name
