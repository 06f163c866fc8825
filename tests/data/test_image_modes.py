"""Images of every mode that Pillow opens: what they become, decoded once and read for every view, or who is refused."""

import struct
import zlib

import numpy as np
import pytest
from helpers.data_checks import complaint, folder
from PIL import Image

from distillab.data.images.decode import read_image

DRAW = np.random.RandomState(0)
RGB = DRAW.randint(0, 256, (6, 6, 3)).astype(np.uint8)
GREY = DRAW.randint(0, 256, (6, 6)).astype(np.uint8)
DEEP = DRAW.randint(0, 2**16, (6, 6)).astype(np.uint16)
DEEP[0, :3] = 0, 255, 2**16 - 1  # 255 of 65535 is nearly black
BITS = DRAW.rand(6, 6) < 0.5
PLACES = DRAW.randint(0, 4, (6, 6)).astype(np.uint8)
PALETTE = DRAW.randint(0, 256, (4, 3)).astype(np.uint8)
ALPHA = np.where(BITS, 255, 0).astype(np.uint8)
OF_8 = np.rint(DEEP / 65535 * 255)


def on_white(pixels, seen):
    return np.where(seen if pixels.ndim == 2 else seen[..., None], pixels, 255)


def palette(mode="P"):
    image = Image.fromarray(PLACES, "L").convert("P")
    image.putdata(PLACES.ravel().tolist())
    image.putpalette(PALETTE.tobytes())
    return image.convert(mode)


def png_of_48_bits(path):
    """Colour of 16 bits by channel, which Pillow reads and does not write (PNG, ISO 15948)."""
    rows = b"".join(b"\0" + (RGB[row].astype(">u2") * 256 + 77).astype(">u2").tobytes() for row in range(6))
    parts = (b"IHDR", struct.pack(">2I5B", 6, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def tiff(path, tag, value):
    """A TIFF of 16 bits in which one tag has another value."""
    Image.fromarray(DEEP).save(path)
    content = path.read_bytes()
    entry = struct.pack("<2HI", tag, 3, 1)  # of one short number
    at = content.index(entry) + len(entry)
    path.write_bytes(content[:at] + struct.pack("<H", value) + content[at + 2 :])


def of_12_bits():
    """The first rows of the bytes of `DEEP`, nine of them each, as numbers of 12 bits."""
    bits = np.unpackbits(np.frombuffer(DEEP.tobytes()[: 6 * 9], np.uint8)).reshape(36, 12)
    return np.rint(bits @ 2 ** np.arange(11, -1, -1) / 4095 * 255).reshape(6, 6)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP).save(path, exif=exif)


def saved(image, **options):
    return lambda path: image.save(path, **options)


others = {"save_all": True, "append_images": [Image.new("L", (6, 6), 9)]}
WRITTEN = {  # by a file's name: how it is written, and its upright pixels
    "8_bits.png": (saved(Image.fromarray(GREY)), GREY),
    "1_bit.png": (saved(Image.fromarray(BITS)), 255 * BITS),
    "1_bit.tif": (saved(Image.fromarray(BITS), compression="group4"), 255 * BITS),
    "alpha.png": (saved(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])), on_white(GREY, BITS)),
    "16_bits.png": (saved(Image.fromarray(DEEP)), OF_8),
    "16_bits.tif": (saved(Image.fromarray(DEEP)), OF_8),
    "16_bits.pgm": (saved(Image.fromarray(DEEP)), OF_8),
    "big_endian.tif": (saved(Image.frombytes("I;16B", (6, 6), DEEP.astype(">u2").tobytes())), OF_8),
    "invisible.png": (saved(Image.fromarray(DEEP), transparency=int(DEEP[3, 3])), on_white(OF_8, DEEP[3, 3] != DEEP)),
    "white_is_0.tif": (lambda path: tiff(path, 262, 0), 255 - OF_8),
    "12_bits.tif": (lambda path: tiff(path, 258, 12), of_12_bits()),
    "turned.png": (turned, np.rot90(OF_8, -1)),
    "float.tif": (saved(Image.fromarray((GREY / 255).astype(np.float32))), GREY),
    "pages.tif": (saved(Image.fromarray(GREY), **others), GREY),
    "palette.png": (saved(palette()), PALETTE[PLACES]),
    "animated.gif": (saved(palette(), **others), PALETTE[PLACES]),
    "palette_1.png": (saved(palette(), transparency=1), on_white(PALETTE[PLACES], PLACES != 1)),
    "palette_n.png": (saved(palette(), transparency=b"\xff\0\0\xff"), on_white(PALETTE[PLACES], PLACES % 3 == 0)),
    "palette_alpha.tif": (saved(palette("PA")), PALETTE[PLACES]),
    "rgba.png": (saved(Image.fromarray(np.dstack([RGB, ALPHA]))), on_white(RGB, BITS)),
    "rgba.tif": (saved(Image.fromarray(np.dstack([RGB, ALPHA]))), on_white(RGB, BITS)),
    "48_bits.png": (png_of_48_bits, RGB),
    "cmyk.tif": (saved(Image.fromarray(RGB).convert("CMYK")), RGB),
    "cmyk.jpg": (saved(Image.new("CMYK", (6, 6), (0, 255, 255, 51))), np.full((6, 6, 3), (204, 0, 0))),
    "ycbcr.jpg": (saved(Image.new("YCbCr", (6, 6), (76, 85, 255))), np.full((6, 6, 3), (254, 0, 0))),
}


def both_ways(root, names, grey):
    for split in ("train", "test"):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for file in names:
                WRITTEN[file][0](root / split / name / file)
    for how in ({}, {"memory_budget": 0, "workers": 0}):
        data = folder(root, augment=None, validation=0, **how)
        assert data.info.channels == (1 if grey else 3)
        found = {i: p for b in data.test_dataloader() for i, p in zip(b.index.tolist(), b.pixels[0], strict=True)}
        for row, file in enumerate(sorted(names) * 2):
            expected = WRITTEN[file][1]
            expected = expected[..., None] if expected.ndim == 2 else expected
            off = np.abs(found[row].permute(1, 2, 0).numpy().astype(int) - expected).max()
            assert off <= (file in ("cmyk.jpg", "ycbcr.jpg")), (file, how, off)


def test_grey_images_of_every_mode(tmp_path):
    both_ways(tmp_path / "images", [name for name, (_, pixels) in WRITTEN.items() if pixels.ndim == 2], grey=True)


def test_images_of_every_mode_beside_coloured_ones(tmp_path):
    both_ways(tmp_path / "images", list(WRITTEN), grey=False)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((6, 6), 200, np.int32), "pixels from 200 to 200 in mode I"),
        (np.full((6, 6), 1.5, np.float32), "pixels from 1.5 to 1.5 in mode F"),
        (np.full((6, 6), -0.5, np.float32), "from -0.5"),
        (np.full((6, 6), np.nan, np.float32), "in mode F"),
    ],
)
def test_numbers_of_which_white_is_unknown_are_named_with_their_file(tmp_path, pixels, said):
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path)
    assert read_image(str(path)).size == (6, 6)
    complaint(lambda: read_image(str(path), 1), path, said, "floats from 0 (black) to 1 (white)", "data.root=…")


def test_an_image_too_large_to_open_is_named(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (6, 6)).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 17)  # twice as many are an error
    complaint(folder(tmp_path / "images").prepare, "0.png is not a readable image", "data.root=…")
