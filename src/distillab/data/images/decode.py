"""Images as one uint8 array on disk, found again by the hash of their content."""

import errno
import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from PIL import Image, ImageOps

from distillab.core.errors import UserError, first_few
from distillab.core.files import locked, plain, replacing, writable, write_json
from distillab.core.output import rank_zero_warn
from distillab.data.collection import digest

CHUNK = 64  # files per task: fewer would pay more for the pool than for the decoding
DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")
GREY_MODES = ("1", "L", "LA", "La", *DEEP_MODES)
UNOPENED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises for a file
PLACE = "paths.store=…"
CHECKSUM = "checksum.json"
BITS, WHITE = 258, 262  # TIFF's tags: bits of a pixel, and whether 0 is white (0) or black


def read_image(path: str, channels: int | None = None) -> Image.Image:
    """Open and decode one file, upright and without transparency, as grey (1) or RGB (3), or in its own mode (None).

    What is transparent shows a white ground, 16 bits are brought to 8, and of several pictures the first is taken. Raises
    UserError where the file is missing, broken, or holds numbers of which it is unknown how bright they are.
    """
    try:
        with Image.open(path) as image:
            image.load()
            with suppress(Exception):  # a tag that a camera wrote badly turns nothing
                ImageOps.exif_transpose(image, in_place=True)
            if channels is None:
                return image
            if image.mode in DEEP_MODES:
                image = _of_8_bits(image, path)
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return image.convert("L" if channels == 1 else "RGB")
    except UserError:
        raise
    except Exception as error:  # a damaged file can end in any
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = "replace or remove it, or change data.root=…"
        raise UserError(f"{path} is not a readable image ({reason}): {mend}") from error


def _of_8_bits(image: Image.Image, path: str) -> Image.Image:
    """A grey image of 9 to 16 bits, or of floats from 0 to 1, as one of 8; raises UserError for other numbers."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode == "F":
        white, known = 1, bool((values >= 0).all() and (values <= 1).all())
    else:
        # Pillow brings those of PNG and PGM to 16 bits; in a TIFF these are numbers of 32 bits, or signed ones.
        white, known = 2 ** tags.get(BITS, (16,))[0] - 1, image.mode != "I" or image.format in ("PNG", "PPM")
    if not known:
        lowest, highest = values.min(), values.max()
        allowed = "8 or 16 bits, or floats from 0 (black) to 1 (white), are allowed: convert it, or change data.root=…"
        raise UserError(f"{path} has pixels from {lowest:g} to {highest:g} in mode {image.mode}; {allowed}")
    grey = np.rint(values / white * 255).astype(np.uint8)
    if tags.get(WHITE) == 0:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def first_size(files: list[str]) -> tuple[int, int]:
    """Width and height of the first readable image; raises UserError where none is: decoding names the others."""
    refusals = []
    for path in files:
        try:
            return read_image(path).size
        except UserError as error:
            refusals.append(error)
    raise refusals[0]


def fit_square(image: Image.Image, path: str, image_size: int, resize: int | None) -> np.ndarray:
    """Bring a grey or RGB image to (C, image_size, image_size) uint8.

    `resize` scales the shorter side, before the centre is cropped; None raises UserError for images of another size.
    """
    if resize is None and image.size != (image_size, image_size):
        needed = f"all images must be alike and square here (the first suggests {image_size})"
        raise UserError(f"{path} has {image.width}x{image.height} pixels, but {needed}: data.image_size={image_size}")
    if resize is not None:
        scale = resize / min(image.size)
        size = tuple(max(resize, round(side * scale)) for side in image.size)
        image = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        left, top = ((side - image_size) // 2 for side in size)
        image = image.crop((left, top, left + image_size, top + image_size))
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def in_threads(files: list[str], work: Callable[[str], Any]) -> Iterator[Any]:
    """What `work` makes of each file, in order; at its end one UserError for all files that `work` refused."""

    def made(chunk: list[str]) -> list[Any]:
        return [_or_refusal(work, path) for path in chunk]

    chunks = (files[first : first + CHUNK] for first in range(0, len(files), CHUNK))
    threads, refused = os.cpu_count() or 2, []
    with ThreadPoolExecutor(threads) as pool:
        # A window of tasks, not all at once: finished images must not pile up in memory.
        tasks = ((chunk, pool.submit(made, chunk)) for chunk in chunks)
        waiting = deque(islice(tasks, 4 * threads))
        try:
            while waiting:
                chunk, task = waiting.popleft()
                for path, one in zip(chunk, task.result(), strict=True):
                    if isinstance(one, UserError):
                        refused.append((path, one))
                    elif not refused:
                        yield one
                waiting.extend(islice(tasks, 1))
        finally:
            pool.shutdown(cancel_futures=True)
    if refused:
        (_, first), *others = refused
        also = first_few([path for path, _ in others])
        more = f"; {len(others)} more of {len(files)} files cannot be used ({also})" if others else ""
        raise UserError(f"{first}{more}") from first


def _or_refusal(work: Callable[[str], Any], path: str) -> Any:
    try:
        return work(path)
    except UserError as error:
        return error


def hash_files(files: list[str]) -> str:
    """Hash the content of all files, in order. Raises UserError for one that cannot be read."""

    def content(path: str) -> bytes:
        try:
            return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
        except OSError as error:
            mend = "mend its permissions, or change data.root=…"
            raise UserError(f"{path} cannot be read ({error.strerror}): {mend}") from error

    return digest(b"".join(in_threads(files, content)))


def _read(path: Path) -> dict[str, Any]:
    """A file of the store as a mapping; an empty one where it is absent or broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _checksum(note: Any) -> int:
    return zlib.crc32(json.dumps(plain(note), sort_keys=True).encode())


class DecodedStore:
    """Decoded images under `<cache_dir>/data`, each array in a folder named by its key. Use it inside `lock()`."""

    def __init__(self, cache_dir: str | os.PathLike[str]) -> None:
        self.folder = Path(cache_dir).expanduser() / "data"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the store alone. Raises UserError where it cannot be written."""
        return locked(self.folder / ".lock", "another process that decodes images", PLACE)

    def recall(self, listing: str, *keys: str) -> dict[str, Any] | None:
        """What was noted about the files of this listing, or None where there is no whole note with these keys."""
        note = _read(self.folder / "index" / f"{listing}.json")
        if "crc32" in note and note.pop("crc32") != _checksum(note):
            return None
        return note if set(keys) <= note.keys() else None

    def note(self, listing: str, note: dict[str, Any]) -> None:
        """Remember it for the next start."""
        with writable(self.folder, PLACE):
            write_json(self.folder / "index" / f"{listing}.json", {**note, "crc32": _checksum(note)})

    def load(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The array (copy-on-write memory map), or None where it is absent, cut short, foreign or damaged."""
        path = self.folder / key / "images.npy"
        try:
            images = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if images.shape != shape or images.dtype != np.uint8:
            return None
        known = _read(path.with_name(CHECKSUM)).get("crc32")
        if known not in (None, zlib.crc32(images)):  # an older one has none
            rank_zero_warn(f"store: {path} is damaged; it is made again")
            return None
        return images

    def keep(self, key: str, images: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Write images (C, H, W) uint8 one after another, publish the array by one rename and return it, mapped."""
        began, path, needed = time.monotonic(), self.folder / key / "images.npy", math.prod(shape)
        for leftover in self.folder.glob("*/.images.npy.*"):  # of a killed run: the lock is ours
            leftover.unlink()
        with writable(self.folder, PLACE):
            if shutil.disk_usage(self.folder).free < needed:
                raise OSError(errno.ENOSPC, f"{needed / 2**30:.1f} GiB needed, less is free")
            with replacing(path) as temporary, temporary.open("wb") as file:
                header, checksum = {"descr": "|u1", "fortran_order": False, "shape": shape}, 0
                np.lib.format.write_array_header_1_0(file, header)
                for image in images:
                    file.write(pixels := image.tobytes())
                    checksum = zlib.crc32(pixels, checksum)
                file.flush()
                write_json(
                    path.with_name(CHECKSUM), {"crc32": checksum}
                )  # first: an array beside another is made again
        rank_zero_info(f"Decoded {shape[0]:,} images in {time.monotonic() - began:.1f} s to {path.parent}")
        images = self.load(key, shape)
        if images is None:
            raise UserError(f"the decoded images in {path.parent} cannot be read back: choose another disk, {PLACE}")
        return images
