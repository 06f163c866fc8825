"""What one image file becomes: upright, and without transparency, whether it is decoded once or read for every view."""

import resource
import struct
import zlib

import numpy as np
import pytest
from helpers.data_checks import cats_and_dogs, folder
from PIL import Image

from distillab.core.errors import UserError
from distillab.data.images.decode import read_image

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 6, 3)).astype(np.uint8)
# How numpy turns an image that was stored with this EXIF orientation upright.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


def both_ways(root):
    """The images of a folder, decoded once and read for every view."""
    data = [folder(root, augment=None, validation=0, **how) for how in ({}, {"memory_budget": 0, "workers": 0})]
    return [
        {i: p for b in d.test_dataloader() for i, p in zip(b.index.tolist(), b.pixels[0], strict=True)} for d in data
    ]


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])  # without loss
def test_a_turned_photograph_is_upright_in_both_ways_of_reading(tmp_path, ending):
    for orientation in UPRIGHT:
        exif = Image.Exif()
        exif[0x0112] = orientation
        for split in ("train", "test"):
            for name in "ab":
                place = tmp_path / "images" / split / name
                place.mkdir(parents=True, exist_ok=True)
                options = {"lossless": True} if ending == "webp" else {}
                Image.fromarray(PIXELS).save(place / f"{orientation}.{ending}", exif=exif, **options)
    for found in both_ways(tmp_path / "images"):
        for row, turn in enumerate([*UPRIGHT.values()] * 2):
            assert np.array_equal(found[row].permute(1, 2, 0), turn(PIXELS)), row


def test_a_wide_photograph_turned_on_its_side_has_its_sides_exchanged(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(str(tmp_path / "a.jpg")).size == read_image(str(tmp_path / "a.jpg"), 3).size == (4, 8)


def test_an_orientation_that_is_badly_written_turns_nothing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF at all")
    assert np.array_equal(read_image(str(tmp_path / "a.png"), 3), PIXELS)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_pixels_are_white_in_both_ways_of_reading(tmp_path, mode):
    """The colour that an invisible pixel hides, here black, is not seen."""
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / split / name).mkdir(parents=True)
            image, options = Image.new("RGBA", (4, 4), (100, 100, 100, 255)), {}
            image.putpixel((0, 0), (0, 0, 0, 0))
            image.putpixel((1, 0), (0, 0, 0, 128))
            if mode in ("P", "L"):  # one grey is invisible
                image, options = image.convert("L").convert(mode), {"transparency": 0}
                image.putpixel((1, 0), 100)
            image.convert(mode).save(tmp_path / "images" / split / name / "a.png", **options)
    for found in both_ways(tmp_path / "images"):
        pixels = found[0]
        assert (pixels[:, 0, 0] == 255).all() and (pixels[:, 1:] == 100).all()
        assert (pixels[:, 0, 1] == (127 if mode in ("RGBA", "LA") else 100)).all()


def test_decoded_images_and_notes_that_are_damaged_are_made_again(tmp_path, capsys):
    """One flipped bit, wherever it is; what an older version kept has no checksum and is taken."""
    images = cats_and_dogs(tmp_path)

    def pixels():
        return folder(images, augment=None).collection.images.numpy().copy()

    whole = pixels()
    (file,) = (tmp_path / "store").glob("data/*/images.npy")
    (note,) = (tmp_path / "store").glob("data/index/*.json")
    for place, at in ((file, 130), (file, -1), (file.with_name("checksum.json"), -4), (note, 30)):
        kept = place.read_bytes()
        damaged = bytearray(kept)
        damaged[at] ^= 1
        place.write_bytes(damaged)
        capsys.readouterr()
        assert np.array_equal(pixels(), whole)
        assert place.read_bytes() == kept, f"{place} was made again"
        assert ("images.npy is damaged; it is made again" in capsys.readouterr().err) == (place != note)
    file.with_name("checksum.json").unlink()
    made = file.stat().st_mtime_ns
    assert np.array_equal(pixels(), whole) and file.stat().st_mtime_ns == made


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_an_image_that_would_fill_the_memory_is_refused_unread(tmp_path):
    """A hundred thousand pixels by as many, and a text of a hundred megabytes, in files of a few bytes or a megabyte."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    small = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    text = zlib.compressobj(1)
    long = b"".join([text.compress(bytes(10**6)) for _ in range(100)] + [text.flush()])
    pixels = chunk(b"IDAT", zlib.compress(bytes(4 * 13))) + chunk(b"IEND", b"")
    start, before = b"\x89PNG\r\n\x1a\n", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (chunk(b"IHDR", header) + pixels, chunk(b"IHDR", small) + chunk(b"zTXt", b"a\0\0" + long) + pixels):
        (tmp_path / "bomb.png").write_bytes(start + content)
        with pytest.raises(UserError, match=r"bomb\.png is not a readable image \([^\n]*\): replace or remove it"):
            read_image(str(tmp_path / "bomb.png"), 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 90 * 1024
