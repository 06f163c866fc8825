"""What a teacher said, by view and sample: written once as training goes, read by every later run of any seed."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from distillab.distributed import warn
from distillab.files import replacing
from distillab.teachers.layout import Layout

CACHE_VERSION = 1  # goes up when the same key would hold other bytes
SHARD = 32768  # samples in a file
MAGIC = b"distillab cache\n"
RECOUNT = 60  # seconds
RESERVE = 1e9  # bytes of the disk, or a twentieth of it if that is less: they stay free for checkpoints and results
MEND = "cache.top_k=8 or data.views=8"  # makes a cache smaller


def shard_name(start: int) -> str:
    """The file of the samples from `start` on."""
    return f"{start:09d}.shard"


class View:
    """One view of all training samples: what is published of it, and what this process adds.

    Args:
        folder: keeps the view's files.
        layout: of a record.
        samples: how many there are.
        key: everything the content depends on; a file of another key is not read.
    """

    def __init__(self, folder: Path, layout: Layout, samples: int, key: str) -> None:
        self.folder, self.layout, self.samples, self.key = folder, layout, samples, key
        self.present = np.zeros(samples, bool)
        self.fresh = np.zeros(samples, bool)
        self._shards: dict[int, np.ndarray] = {}
        self._refused: set[Path] = set()
        self._seen: dict[int, tuple[int, int] | None] = {}
        for start in range(0, samples, SHARD):
            self._open(start)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The records of samples that are all `present`."""
        records = np.empty(len(index), self.layout.record)
        for start in np.unique(index // SHARD) * SHARD:
            inside = (index >= start) & (index < start + SHARD)
            records[inside] = self._shards[int(start)][index[inside] - start]
        return records

    def add(self, index: np.ndarray, records: np.ndarray) -> None:
        """Take up new records; those that are present already stay."""
        new = ~self.present[index]
        index, records = index[new], records[new]
        for start in np.unique(index // SHARD) * SHARD:
            shard = self._shards.get(int(start))
            if shard is None or not shard.flags.writeable:
                # The published file stays as it is: its numbers are copied into memory before any is added.
                whole = np.zeros(self._count(start), self.layout.record)
                if shard is not None:
                    whole[:] = shard
                self._shards[int(start)] = shard = whole
            inside = (index >= start) & (index < start + SHARD)
            shard[index[inside] - start] = records[inside]
        self.present[index] = self.fresh[index] = True

    def refresh(self) -> None:
        """Take up what others have published since this process looked; what it added itself stays beside it."""
        for start in range(0, self.samples, SHARD):
            if (state := self._state(start)) == self._seen.get(start):
                continue
            self._seen[start] = state
            if (theirs := self._load(start)) is None:
                continue
            part = slice(start, start + self._count(start))
            if self.fresh[part].any():
                self._merge(start, theirs)
            else:
                self.present[part], self._shards[start] = theirs

    def publish(self) -> int:
        """Write what was added, together with what others published meanwhile; files are replaced, never changed.

        Of two runs that fill a view at once the earlier one's record stays, as others may have learned from it. The
        later one has learned from its own once; only there its repetition may differ, if a GPU rounded otherwise.

        Returns:
            The bytes by which the files grew.

        Raises:
            OSError: there is no space, or no permission.
        """
        grown = 0
        for start in (int(s) for s in np.unique(np.flatnonzero(self.fresh) // SHARD) * SHARD):
            part = slice(start, start + self._count(start))
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                for leftover in self.folder.glob(".*.tmp"):  # of a killed run: the lock is ours
                    leftover.unlink()
                theirs = self._load(start)
                if theirs is not None:
                    self._merge(start, theirs)
                grown -= self._file(start).stat().st_size if self._file(start).exists() else 0
                self._write(start)
                grown += self._file(start).stat().st_size
            self.fresh[part] = False
            self._open(start)
        return grown

    def bytes(self) -> int:
        """What the whole view takes on disk."""
        return self.layout.bytes(self.samples)

    def bytes_there(self) -> int:
        """What its published files take."""
        return sum(file.stat().st_size for file in self.folder.glob("*.shard"))

    def _count(self, start: int) -> int:
        return min(SHARD, self.samples - start)

    def _file(self, start: int) -> Path:
        return self.folder / shard_name(start)

    def _merge(self, start: int, theirs: tuple[np.ndarray, np.ndarray]) -> None:
        """Take others' records beside one's own, and in their place where there are both."""
        there, records = theirs
        self._shards[start][there] = records[there]
        self.present[start : start + self._count(start)] |= there

    def _state(self, start: int) -> tuple[int, int] | None:
        """What tells a published file from the one that replaces it; None where there is none."""
        try:
            status = self._file(start).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _open(self, start: int) -> None:
        self._seen[start] = self._state(start)
        loaded = self._load(start)
        if loaded is not None:
            self.present[start : start + self._count(start)] = loaded[0]
            self._shards[start] = loaded[1]

    def _write(self, start: int) -> None:
        bitmap = np.packbits(self.present[start : start + self._count(start)]).tobytes()
        values = self._shards[start].tobytes()
        about = {"key": self.key, "checksum": zlib.crc32(values, zlib.crc32(bitmap))}
        head = json.dumps(about).encode().ljust(256 - len(MAGIC))
        with replacing(self._file(start)) as temporary, temporary.open("wb") as file:
            for part in (MAGIC, head, bitmap, values):
                file.write(part)

    def _load(self, start: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Bitmap and mapped records of a published file; None where there is none, or none that is whole."""
        path, count = self._file(start), self._count(start)
        size = 256 + (count + 7) // 8 + count * self.layout.record.itemsize
        try:
            raw = np.memmap(path, np.uint8, "r")
        except FileNotFoundError:
            return None
        except ValueError:
            return self._refuse(path, "is empty; it is built again")
        except OSError as error:
            return self._refuse(path, f"cannot be read ({error.strerror or error}); the teacher runs instead")
        bitmap, values = raw[256 : 256 + (count + 7) // 8], raw[256 + (count + 7) // 8 :]
        try:
            about = json.loads(bytes(raw[len(MAGIC) : 256]))
            whole = len(raw) == size and bytes(raw[: len(MAGIC)]) == MAGIC and about["key"] == self.key
            whole = whole and about["checksum"] == zlib.crc32(values, zlib.crc32(bitmap))
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            # Left where it is: the next publishing replaces it, and another process may have done so already.
            return self._refuse(path, "is damaged (its checksum differs); it is built again")
        return np.unpackbits(bitmap, count=count).astype(bool), values.view(self.layout.record)

    def _refuse(self, path: Path, reason: str) -> None:
        if path not in self._refused:  # publishing looks at it again
            self._refused.add(path)
            warn(f"teacher cache: {path} {reason}")


class TeacherCache:
    """Views of one teacher on one data set, kept below one folder.

    Args:
        root: of all caches.
        key: everything the outputs depend on: the teacher's weights and normalisation, the data, the augmentation.
        layout: of a record.
        samples: training samples.
        limit: bytes that all caches below `root` may take.
        strong: what replaces parts of the key for strong views, so that methods of one view and of two share the weak.
    """

    def __init__(
        self, root: Path, key: Mapping[str, Any], layout: Layout, samples: int, limit: float, strong: dict | None = None
    ) -> None:
        self.root, self.layout, self.samples, self.limit = Path(root), layout, samples, limit
        self.keys = self._hash(key), self._hash({**key, **(strong or {})})  # by kind of view
        self.key = self.keys[0]
        self.filling = True
        self._number: int | None = None
        self._views: dict[int, View] = {}  # of this number, by kind
        self._taken, self._counted = 0, -math.inf

    def _hash(self, key: Mapping[str, Any]) -> str:
        text = json.dumps([CACHE_VERSION, key, asdict(self.layout), self.samples], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def view(self, number: int, kind: int = 0) -> View:
        """View `number` of kind 0 (weak) or 1 (strong); what was added to the one before is published first."""
        if number != self._number:
            self.publish()
            self._number, self._views = number, {}
        if kind not in self._views:
            folder = self._folder(number, kind)
            self._views[kind] = View(folder, self.layout, self.samples, f"{self.keys[kind]}/{number}/{kind}")
        return self._views[kind]

    def has(self, number: int, kind: int = 0) -> bool:
        """Whether all files of a view are there; how full they are, only reading them says."""
        starts = range(0, self.samples, SHARD)
        return all((self._folder(number, kind) / shard_name(start)).is_file() for start in starts)

    def _folder(self, number: int, kind: int) -> Path:
        return self.root / self.keys[kind] / f"{number:06d}-{kind}"

    def publish(self) -> None:
        """Write what was added, if there is room; where there is not, the filling ends and training goes on."""
        for view in self._views.values():
            if self.filling and view.fresh.any():
                self._publish(view)

    def _publish(self, view: View) -> None:
        try:
            taken = self.bytes_taken()
            if taken - view.bytes_there() + view.bytes() > self.limit:
                self._end(
                    f"{taken / 1e9:.2f} GB are taken, a view takes {view.bytes() / 1e9:.2f} GB, and cache.limit_gb is "
                    f"{self.limit / 1e9:g}; raise it, delete what is not needed any more in {self.root}, or set {MEND}"
                )
                return
            self.root.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self.root)
            if disk.free < view.bytes() + (reserve := min(RESERVE, disk.total / 20)):
                self._end(
                    f"{disk.free / 1e9:.2f} GB are free in {self.root}, a view takes {view.bytes() / 1e9:.2f} GB, and "
                    f"{reserve / 1e9:.2f} GB stay free for checkpoints; make room, or set paths.store=…, {MEND}"
                )
                return
            self._taken += view.publish()
        except OSError as error:
            self._end(f"{view.folder} cannot be written ({error.strerror or error})")

    def bytes_taken(self) -> int:
        """Bytes of all caches below `root`: to look at every file costs time, so others' are counted now and then."""
        now = time.monotonic()
        if now - self._counted > RECOUNT:
            self._taken, self._counted = sum(path.stat().st_size for path in self.root.rglob("*.shard")), now
        return self._taken

    def _end(self, reason: str) -> None:
        self.filling = False
        warn(f"the teacher cache takes up nothing more: {reason}", own=True)
