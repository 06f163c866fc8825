"""A teacher cache as one file for another machine: a zip of its shards as they are, and of what their content depends on."""

import json
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from distillab.core.errors import UserError, reason
from distillab.core.files import replacing, writable
from distillab.models.new_head import Probe, as_bytes, from_bytes
from distillab.teachers.cache import TeacherCache
from distillab.teachers.manifest import FORMAT, MANIFEST, Manifest, differences
from distillab.teachers.shards import SHARD, View, by_shard, shard_bytes, shard_name

HEAD = "head.safetensors"
MEMBER = re.compile(r"(?P<number>\d{6,})-(?P<kind>[01])/(?P<start>\d{9})\.shard")
OUT, STORE = "out=…", "paths.store=…"
WROTE = "archive=… names what `distillab cache export` wrote"


@dataclass
class Moved:
    """What an export or an import did."""

    views: int = 0
    samples: int = 0  # records that were written
    known: int = 0  # records that were there before
    others: int = 0  # of them, those that the file has otherwise


def export_cache(cache: TeacherCache, manifest: Manifest, out: Path, *, kinds: int, head: Probe | None = None) -> Moved:
    """Write the published views of the first `kinds` kinds to a zip, and the head that was fitted for the teacher.

    UserError where there are none, or no room.
    """
    moved = Moved()
    with writable(out, OUT), replacing(out) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
        archive.writestr(MANIFEST, json.dumps(asdict(manifest), indent=2))
        if head is not None:
            archive.writestr(HEAD, as_bytes(head))
        for number, kind in cache.stored(kinds):
            view = cache.view(number, kind)
            for start in range(0, cache.samples, SHARD):
                if records := view.records(start):  # a damaged one has none, and was named
                    archive.write(view.file(start), f"{view.folder.name}/{shard_name(start)}")
                    moved.samples += records
            moved.views += 1
        if not moved.samples:
            raise UserError(
                f"{cache.root} has no outputs of this teacher for these data yet: python train.py with the same words fills it"
            )
    return moved


def read_head(archive: Path, classes: int, width: int) -> Probe | None:
    """The head of so many classes on so many features that an exported file has; None where it has none.

    Raises UserError where it is another, and as `import_cache`.
    """
    with _opened(archive) as file:
        if HEAD not in file.namelist():
            return None
        most = 8 * classes * (width + 1) + 4096  # a damaged file may claim any size
        found = from_bytes(file.read(HEAD)) if file.getinfo(HEAD).file_size <= most else None
    if found is None or found.weights.shape != (classes, width + 1):
        raise UserError(
            f"{archive} has no head for {classes:,} classes on {width:,} features, which this teacher needs: it is of another "
            f"teacher or of other data, or it is damaged"
        )
    return found


def read_manifest(archive: Path) -> tuple[Manifest, bool]:
    """What the outputs in an exported file depend on, and whether a head that was fitted is with them.

    Raises UserError where the file is none, or has no outputs.
    """
    with _opened(archive) as file:
        found = _manifest(archive, file)
        if not _views(archive, file, len(found.keys)):
            raise UserError(f"{archive} has no outputs of a teacher: {WROTE}")
        return found, HEAD in file.namelist()


def import_cache(archive: Path, cache: TeacherCache, manifest: Manifest, *, kinds: int) -> Moved:
    """Add the records of an exported file to a cache; those that are there stay.

    Raises UserError where the file is none or is damaged, belongs to another teacher, other data or other views, and where
    the records find no room.
    """
    with _opened(archive) as file:
        theirs = _manifest(archive, file)
        kinds = min(kinds, len(theirs.keys))
        if found := differences(manifest, theirs, kinds):
            raise misfit(archive, found)
        moved = Moved()
        with writable(cache.root, STORE):
            cache.root.mkdir(parents=True, exist_ok=True)
            beside = tempfile.TemporaryDirectory(dir=cache.root.parent, prefix=".import-")
        with beside as folder:
            own = {"samples": cache.samples, "limit": 0.0, "strong": theirs.keys[-1]}
            source = TeacherCache(Path(folder), theirs.keys[0], cache.layout, **own)
            for (number, kind), names in _views(archive, file, kinds).items():
                for name in names:
                    _unpack(archive, file, name, source, Path(folder) / source.keys[kind])
                _take(source.view(number, kind), cache, (number, kind), moved)
    return moved


def misfit(archive: Path, found: list[str]) -> UserError:
    """The refusal of an exported file with these `differences`."""
    return UserError(f"{archive} does not fit the words of this command: {'; '.join(found)}")


def _take(view: View, cache: TeacherCache, place: tuple[int, int], moved: Moved) -> None:
    """Add the records of a view, shard by shard, as a view may be larger than the memory."""
    if view.damaged:
        raise UserError(f"{view.damaged[0].name} of view {place[0]} is damaged in the file: export and copy it again")
    mine = cache.view(*place)
    for _, inside in by_shard(index := np.flatnonzero(view.present)):
        part = index[inside]
        known = part[mine.present[part]]
        moved.others += int((_bytes(view.read(known)) != _bytes(mine.read(known))).any(1).sum())
        new = part[~mine.present[part]]
        mine.add(new, view.read(new))
        cache.publish()
        if not cache.filling:
            raise UserError(f"the outputs find no room in {cache.root} (the warning above says why)")
        moved.samples, moved.known = moved.samples + len(new), moved.known + len(known)
    moved.views += 1


def _bytes(records: np.ndarray) -> np.ndarray:
    """Records (n,) as bytes (n, size of a record)."""
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), records.dtype.itemsize)


@contextmanager
def _opened(path: Path) -> Iterator[ZipFile]:
    """A zip; an error in reading it is one line."""
    try:
        with ZipFile(path) as file:
            yield file
    except (OSError, BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): {WROTE}") from error


def _manifest(path: Path, file: ZipFile) -> Manifest:
    try:
        content = json.loads(file.read(MANIFEST))
        version = content["format"]
        found = Manifest.of(content) if version == FORMAT else None
    except (KeyError, TypeError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path} has no readable {MANIFEST}: {WROTE}") from error
    if found is None:
        raise UserError(f"{path} has format {version}, and this version reads {FORMAT}: export it again")
    if not 1 <= len(found.keys) <= 2:
        raise UserError(f"{path} has {len(found.keys)} kinds of views in its {MANIFEST}, and there are 1 or 2: {WROTE}")
    return found


def _views(path: Path, file: ZipFile, kinds: int) -> dict[tuple[int, int], list[str]]:
    """The names of the shards by view; UserError for any other name but the manifest's and the head's."""
    found: dict[tuple[int, int], list[str]] = {}
    for name in file.namelist():
        named = MEMBER.fullmatch(name)
        if named is None and name not in (MANIFEST, HEAD):
            raise UserError(f"{path} holds {name}, which no export writes: {WROTE}")
        if named is not None and int(named["kind"]) < kinds:
            found.setdefault((int(named["number"]), int(named["kind"])), []).append(name)
    return found


def _unpack(path: Path, file: ZipFile, name: str, cache: TeacherCache, folder: Path) -> None:
    """Write one shard where its view looks for it. UserError where its size is another than that of its samples."""
    start, size = int(MEMBER.fullmatch(name)["start"]), file.getinfo(name).file_size
    if start % SHARD or start >= cache.samples or size != shard_bytes(cache.layout, cache.samples, start):
        raise UserError(f"{path}: {name} is no shard of {cache.samples:,} samples: export and copy it again")
    content, place = file.read(name), folder / name
    with writable(folder, STORE):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
