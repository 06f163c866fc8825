"""Stores trained networks: each is trained once per key, under a lock, and reused by every later run."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from distillab.core import distributed
from distillab.core.errors import UserError
from distillab.core.files import file_hash, locked, plain, writable, write_json
from distillab.core.output import rank_zero_warn

STORE_VERSION = 2  # increase when the same key would give another network
NO_NAME = re.compile(r"[/\x00-\x1f]")  # what the name of one folder may not have
PLACE = "paths.store=…"
NETWORKS = "networks"  # the kind of the networks that are trained here
SEALED = ("*.safetensors", "*.npz")  # the files of a folder whose hashes its record holds


class Store:
    """A folder of records with their files."""

    only_kept = False  # whether a network that is not there yet is refused instead of trained

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def once(
        self, kind: str, name: str, key: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
    ) -> tuple[Path, dict[str, Any], bool]:
        """The folder `<kind>/<name>-<hash of key>`, its record, and whether they existed before.

        Otherwise `make` fills the folder and returns the record, which is written last and completes it. So it is where
        a file is no longer as it was written; a line names that. Several processes call `make` together; process 0
        writes. Raises UserError where the store cannot be written, or lacks a network and is `only_kept`.
        """
        digest = hashlib.sha256(json.dumps([STORE_VERSION, key], sort_keys=True, default=str).encode()).hexdigest()[:12]
        folder = self.root / kind / f"{NO_NAME.sub('-', name)[:150]}-{digest}"
        held = locked(folder / ".lock", f"another run that is making {folder.name}", PLACE)
        with held if distributed.rank == 0 else nullcontext():
            found = distributed.broadcast(_kept(folder) if distributed.rank == 0 else None)
            if found is not None:
                return folder, found, True
            if self.only_kept and kind == NETWORKS:
                raise UserError(
                    f"{name} is not trained yet in {self.root}: python train.py with the same words trains it, or name its "
                    f"weights (teacher.checkpoint=…) or the store that has it ({PLACE})"
                )
            made = dict(make(folder))
            if distributed.rank == 0:
                with writable(folder, PLACE):
                    write_json(folder / "key.json", dict(key))
                    write_json(folder / "record.json", _sealed(folder, made))
            # Only process 0 evaluates; the others take its record, and wait until it is written.
            return folder, distributed.broadcast(made), False


def _sealed(folder: Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the hashes of the files beside it, and of itself."""
    files = {path.name: file_hash(path) for kind in SEALED for path in sorted(folder.glob(kind))}
    content = plain({**made, "files": files})
    return content | {"checksum": _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _kept(folder: Path) -> dict[str, Any] | None:
    """The record of a folder, None if there is none; damaged files are named, and deleted as they are made again."""
    record = folder / "record.json"
    if not record.exists():
        return None
    content = _read(record)
    seal, files = content.pop("checksum", None), content.get("files", {})
    if seal != _checksum(content) and (seal or files or not content):  # an older record has no seal
        damaged = [record]
    else:
        damaged = [folder / name for name, known in files.items() if not _is_whole(folder / name, known)]
    for path in damaged:
        rank_zero_warn(f"store: {path} is damaged or gone; it is made again")
        with writable(folder, PLACE):
            path.unlink(missing_ok=True)
    return None if damaged else content


def _read(record: Path) -> dict[str, Any]:
    """Its content; empty where it cannot be read."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_whole(path: Path, known: str) -> bool:
    try:
        return file_hash(path) == known
    except OSError:
        return False
