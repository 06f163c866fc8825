"""A disk cache of teacher outputs by view and sample: filled during training, read by later runs of any seed."""

import hashlib
import json
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillab.core.output import rank_zero_warn
from distillab.teachers.layout import Layout
from distillab.teachers.shards import View, all_there

CACHE_VERSION = 1  # increase when the same key would hold other bytes
RECOUNT = 60  # seconds
RESERVE = 1e9  # bytes of the disk, or a twentieth of it if less, that stay free for checkpoints and results
MEND = "cache.top_k=8 or data.views=8"  # makes a cache smaller


class TeacherCache:
    """Views of all training `samples` of one teacher, stored below the `root` of all caches, which take `limit` bytes.

    The `key` is everything the outputs depend on: the teacher's weights and normalisation, the data, the augmentation.
    `strong` replaces parts of it for strong views, so that methods of one view and of two share the weak ones. Views of
    `together` numbers are read in turn, and so are held open at the same time.
    """

    def __init__(
        self,
        root: Path,
        key: dict[str, Any],
        layout: Layout,
        *,
        samples: int,
        limit: float,
        strong: dict[str, Any],
        together: int = 1,
    ) -> None:
        self.root, self.layout, self.samples, self.limit = Path(root), layout, samples, limit
        self.together = together
        self.parts = key, key | strong  # by kind of view
        self.keys = tuple(map(self._hash, self.parts))
        self.key = self.keys[0]
        self.filling = True
        self._group: int | None = None
        self._views: dict[tuple[int, int], View] = {}  # of this group of numbers, by number and kind
        self._taken, self._counted = 0, -math.inf

    def _hash(self, key: dict[str, Any]) -> str:
        text = json.dumps([CACHE_VERSION, key, asdict(self.layout), self.samples], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def view(self, number: int, kind: int = 0) -> View:
        """View `number` of kind 0 (weak) or 1 (strong); a number of another group publishes the views of the one before."""
        if (group := self.group(number)) != self._group:
            self.publish()
            self._group, self._views = group, {}
        if (number, kind) not in self._views:
            key = f"{self.keys[kind]}/{number}/{kind}"
            self._views[number, kind] = View(self._folder(number, kind), self.layout, self.samples, key)
        return self._views[number, kind]

    def group(self, number: int) -> int:
        """Which of the groups a view number is in whose views are open at the same time."""
        return number // self.together

    def has(self, number: int, kind: int = 0) -> bool:
        """Whether all files of a view exist; they may still lack samples."""
        return all_there(self._folder(number, kind), self.samples)

    def stored(self, kinds: int) -> list[tuple[int, int]]:
        """Number and kind of the views of the first `kinds` kinds of which there are files."""
        found = []
        for kind in range(kinds):
            folders = {path.parent.name for path in (self.root / self.keys[kind]).glob(f"*-{kind}/*.shard")}
            found += sorted((int(name.partition("-")[0]), kind) for name in folders)
        return sorted(found)

    def _folder(self, number: int, kind: int) -> Path:
        return self.root / self.keys[kind] / f"{number:06d}-{kind}"

    def publish(self) -> None:
        """Write new records; without room the filling ends and training goes on."""
        for view in self._views.values():
            if self.filling and view.fresh.any():
                try:
                    if lack := self._lack_of_room(view):
                        self._end(lack)
                    else:
                        self._taken += view.publish()
                except OSError as error:
                    self._end(f"{view.folder} cannot be written ({error.strerror or error})")

    def _lack_of_room(self, view: View) -> str | None:
        """Why a view cannot be written: the limit, or the disk."""
        taken, size = self.bytes_taken(), f"a view takes {view.bytes() / 1e9:.2f} GB"
        if taken - view.bytes_there() + view.bytes() > self.limit:
            return (
                f"{taken / 1e9:.2f} GB are taken, {size}, and cache.limit_gb is {self.limit / 1e9:g}; raise it, "
                f"delete what is not needed any more in {self.root}, or set {MEND}"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(self.root)
        reserve = min(RESERVE, disk.total / 20)
        if disk.free < view.bytes() + reserve:
            return (
                f"{disk.free / 1e9:.2f} GB are free in {self.root}, {size}, and {reserve / 1e9:.2f} GB stay free for "
                f"checkpoints; make room, or set paths.store=…, {MEND}"
            )
        return None

    def bytes_taken(self) -> int:
        """Bytes of all caches below `root`; files of other runs are counted again every `RECOUNT` seconds."""
        now = time.monotonic()
        if now - self._counted > RECOUNT:
            self._taken, self._counted = sum(path.stat().st_size for path in self.root.rglob("*.shard")), now
        return self._taken

    def _end(self, reason: str) -> None:
        self.filling = False
        rank_zero_warn(f"the teacher cache takes up nothing more: {reason}", own=True)
