"""One view of a teacher's outputs: files of many samples each, with a checksum, replaced and never changed."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock

from distillab.core.files import replacing
from distillab.core.output import rank_zero_warn
from distillab.teachers.layout import Layout

SHARD = 32768  # samples in a file
MAGIC = b"distillab cache\n"
HEAD = 256  # bytes


def shard_name(start: int) -> str:
    """The file name of the samples from `start` on."""
    return f"{start:09d}.shard"


def shard_bytes(layout: Layout, samples: int, start: int) -> int:
    """The size of the file of the samples from `start` on: its head, a bit for each of them, and the records."""
    count = min(SHARD, samples - start)
    return HEAD + (count + 7) // 8 + count * layout.record.itemsize


def all_there(folder: Path, samples: int) -> bool:
    """Whether all files of a view exist; they may still lack samples."""
    return all((folder / shard_name(start)).is_file() for start in range(0, samples, SHARD))


def by_shard(index: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each file of some samples its first sample, and which of them (a mask) it contains."""
    starts = index // SHARD * SHARD
    for start in np.unique(starts).tolist():
        yield start, starts == start


class View:
    """One view of all training samples: the published records, and those that this process adds.

    The `key` is everything the content depends on; a file of another one is not read.
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
        for start, inside in by_shard(index):
            records[inside] = self._shards[start][index[inside] - start]
        return records

    def add(self, index: np.ndarray, records: np.ndarray) -> None:
        """Add new records; those that are present already stay."""
        new = ~self.present[index]
        index, records = index[new], records[new]
        for start, inside in by_shard(index):
            shard = self._shards.get(start)
            if shard is None or not shard.flags.writeable:
                # The published file stays as it is: its records are copied into memory before any is added.
                whole = np.zeros(self._count(start), self.layout.record)
                if shard is not None:
                    whole[:] = shard
                self._shards[start] = shard = whole
            shard[index[inside] - start] = records[inside]
        self.present[index] = self.fresh[index] = True

    def refresh(self) -> None:
        """Read what other processes have published since the last look; records of this one stay."""
        for start in range(0, self.samples, SHARD):
            if self._state(start) != self._seen.get(start):
                self._open(start)

    def publish(self) -> int:
        """Write the new records, together with those that other processes published meanwhile.

        Of two runs that fill a view at once the earlier one's record stays, as others may have learned from it. The
        later one has learned from its own once; only there its repetition may differ, if a GPU rounded otherwise.

        Returns the bytes by which the files grew; raises OSError without space or permission.
        """
        grown = 0
        for start, _ in by_shard(np.flatnonzero(self.fresh)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                theirs, file = self._load(start), self.file(start)
                if theirs is not None:
                    self._merge(start, theirs)
                grown -= file.stat().st_size if file.exists() else 0
                self._write(start)
                grown += file.stat().st_size
            self.fresh[self._part(start)] = False
            self._open(start)
        return grown

    @property
    def damaged(self) -> list[Path]:
        """Published files that could not be read whole."""
        return sorted(self._refused)

    def records(self, start: int) -> int:
        """How many samples of a file are present."""
        return int(self.present[self._part(start)].sum())

    def file(self, start: int) -> Path:
        """The file of the samples from `start` on."""
        return self.folder / shard_name(start)

    def bytes(self) -> int:
        """Disk size of the whole view."""
        return self.layout.bytes(self.samples)

    def bytes_there(self) -> int:
        """Disk size of its published files."""
        return sum(file.stat().st_size for file in self.folder.glob("*.shard"))

    def _count(self, start: int) -> int:
        return min(SHARD, self.samples - start)

    def _part(self, start: int) -> slice:
        return slice(start, start + self._count(start))

    def _merge(self, start: int, theirs: tuple[np.ndarray, np.ndarray]) -> None:
        """Add others' records, and replace one's own where there are both."""
        there, records = theirs
        self._shards[start][there] = records[there]
        self.present[self._part(start)] |= there

    def _state(self, start: int) -> tuple[int, int] | None:
        """What tells a published file from the one that replaces it; None without a file."""
        try:
            status = self.file(start).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _open(self, start: int) -> None:
        self._seen[start] = self._state(start)
        theirs, part = self._load(start), self._part(start)
        if theirs is not None and self.fresh[part].any():
            self._merge(start, theirs)
        elif theirs is not None:
            self.present[part], self._shards[start] = theirs

    def _write(self, start: int) -> None:
        bitmap = np.packbits(self.present[self._part(start)])
        values = self._shards[start].tobytes()
        with replacing(self.file(start)) as temporary, temporary.open("wb") as file:
            file.writelines((self._head(bitmap, values), bitmap, values))

    def _head(self, bitmap: np.ndarray, values: "np.ndarray | bytes") -> bytes:
        """The first bytes of a file."""
        about = {"key": self.key, "checksum": zlib.crc32(values, zlib.crc32(bitmap))}
        return MAGIC + json.dumps(about).encode().ljust(HEAD - len(MAGIC))

    def _load(self, start: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Bitmap and mapped records of a published file; None if there is no whole one."""
        path, count = self.file(start), self._count(start)
        first = HEAD + (count + 7) // 8  # byte of the first record
        try:
            raw = np.memmap(path, np.uint8, "r")
        except FileNotFoundError:
            return None
        except ValueError:
            return self._refuse(path, "is empty; it is built again")
        except OSError as error:
            return self._refuse(path, f"cannot be read ({error.strerror or error}); the teacher runs instead")
        bitmap, values = raw[HEAD:first], raw[first:]
        if len(values) != count * self.layout.record.itemsize or bytes(raw[:HEAD]) != self._head(bitmap, values):
            # It stays on disk: the next publishing replaces it, and another process may have done so already.
            return self._refuse(path, "is damaged (its checksum differs); it is built again")
        return np.unpackbits(bitmap, count=count).astype(bool), values.view(self.layout.record)

    def _refuse(self, path: Path, reason: str) -> None:
        if path not in self._refused:  # publishing loads it again
            self._refused.add(path)
            rank_zero_warn(f"teacher cache: {path} {reason}")
