"""Stores trained networks: each is trained once per key, under a lock, and reused by every later run."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from distillab.core import distributed
from distillab.core.files import locked, write_json

STORE_VERSION = 2  # increase when the same key would give another network


class Store:
    """A folder of records with their files."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def once(
        self, kind: str, name: str, key: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
    ) -> tuple[Path, dict[str, Any], bool]:
        """The folder `<kind>/<name>-<hash of key>`, its record, and whether they existed before.

        Otherwise `make` fills the folder and returns the record, which is written last and completes it. Several
        processes call `make` together; process 0 writes. Raises UserError where the store cannot be written.
        """
        digest = hashlib.sha256(json.dumps([STORE_VERSION, key], sort_keys=True, default=str).encode()).hexdigest()[:12]
        folder = self.root / kind / f"{name}-{digest}"
        record = folder / "record.json"
        held = locked(folder / ".lock", f"another run that is making {folder.name}", "paths.store=…")
        with held if distributed.rank == 0 else nullcontext():
            found = distributed.broadcast(_read(record) if distributed.rank == 0 else None)
            if found is not None:
                return folder, found, True
            made = dict(make(folder))
            if distributed.rank == 0:
                write_json(folder / "key.json", dict(key))
                write_json(record, made)
            # Only process 0 evaluates; the others take its record, and wait until it is written.
            return folder, distributed.broadcast(made), False


def _read(record: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        return json.loads(record.read_text())
    return None
