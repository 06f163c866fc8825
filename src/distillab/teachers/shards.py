"""One view of what a teacher said: files of many samples each, checked by a sum, replaced and never changed."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
from filelock import FileLock

from distillab.core.distributed import rank_zero_warn
from distillab.core.files import replacing
from distillab.teachers.layout import Layout

SHARD = 32768  # samples in a file
MAGIC = b"distillab cache\n"


def shard_name(start: int) -> str:
    """The file of the samples from `start` on."""
    return f"{start:09d}.shard"


def all_there(folder: Path, samples: int) -> bool:
    """Whether all files of a view are there; how full they are, only reading them says."""
    return all((folder / shard_name(start)).is_file() for start in range(0, samples, SHARD))


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
            if self._state(start) != self._seen.get(start):
                self._open(start)

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
        theirs, part = self._load(start), slice(start, start + self._count(start))
        if theirs is not None and self.fresh[part].any():
            self._merge(start, theirs)
        elif theirs is not None:
            self.present[part], self._shards[start] = theirs

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
            rank_zero_warn(f"teacher cache: {path} {reason}")
