"""A root of synthetic text: parquet files of rows with their provenance, each written whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from distillab.core.allowed import spelled
from distillab.core.errors import UserError, first_few
from distillab.core.files import locked, replacing, writable, write_json
from distillab.core.output import rank_zero_warn
from distillab.data.text.synthetic.filters import Verdict
from distillab.data.text.synthetic.rows import Origin, Row

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT, COST, DATA = "origin.json", "cost.json", "data"
HOW = "python scripts/generate.py"
# The override of each part of the origin, where it has another name.
OVERRIDES = {key: f"sampling.{key}" for key in ("temperature", "top_p", "max_new_tokens", "seed")}
OVERRIDES["served_at"] = "DISTILLAB_ENDPOINT"


@dataclass(frozen=True)
class About:
    """What a root holds. `judged` is the hash of the filters whose verdicts all rows have, None before that."""

    origin: Origin
    rows: int
    judged: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What origin.json says; None where there is none. Raises UserError for a damaged one."""
        path = folder / ABOUT
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(Origin(**found["origin"]), found["rows"], found["judged"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} cannot be read ({type(error).__name__}); write anew with another out=…") from error


@dataclass(frozen=True)
class Cost:
    """What a file took: seconds of compute, and the tokens that were written in them."""

    seconds: float
    tokens: int
    device: str


@dataclass(frozen=True)
class Judged:
    """A row and the verdict on it."""

    row: Row
    verdict: Verdict


class Root:
    """A root that this process writes to; `opened` gives one."""

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, origin: Origin, rows: int) -> Iterator[Self]:
        """The root, locked. Raises UserError where it holds text of another origin, or more rows, or cannot be written."""
        with locked(folder / ".lock", f"another command that writes to {folder}", "out=…"):
            there = About.read(folder)
            if there is not None and any(folder.glob(f"{DATA}/*.parquet")):
                _refuse_to_mix(folder, there, origin, rows)
                about = replace(there, rows=rows)
            else:
                _refuse_other_files(folder)
                about = About(origin, rows)
            root = cls(folder, about)
            if there != root.about:
                root.note(None)  # before the first text, so that no other origin's can come; new rows have no verdicts
            yield root

    def note(self, judged: str | None) -> None:
        """Write down whether all rows have their verdicts, and of which filters."""
        self.about = replace(self.about, judged=judged)
        with writable(self.folder, "out=…"):
            write_json(self.folder / ABOUT, asdict(self.about))

    def shards(self) -> list[range]:
        """The row numbers of each file."""
        rows, size = self.about.rows, self.about.origin.shard_rows
        return [range(start, min(start + size, rows)) for start in range(0, rows, size)]

    def missing(self) -> list[range]:
        """The shards that are absent, cut short or damaged."""
        return [rows for rows in self.shards() if not _whole(self.path(rows), len(rows))]

    def path(self, rows: range) -> Path:
        """The file of a shard."""
        return self.folder / DATA / f"{rows.start // self.about.origin.shard_rows:05d}.parquet"

    def publish(self, rows: range, written: Sequence[Row], cost: Cost) -> None:
        """Write a shard of rows without verdicts, and what they cost."""
        with writable(self.folder, "out=…"):
            write_json(self.folder / COST, asdict_all(self.costs() | {self.path(rows).name: cost}))
        self._write(rows, [(row, None) for row in written])

    def costs(self) -> dict[str, Cost]:
        """What each file took."""
        try:
            found = json.loads((self.folder / COST).read_text(encoding="utf-8"))
            return {name: Cost(**one) for name, one in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # figures for the card alone: what is lost is lost
            return {}

    def read(self, rows: range) -> list[Row]:
        """The rows of a shard."""
        names = [one.name for one in fields(Row)]
        return [Row(**one) for one in read_table(self.path(rows), names).to_pylist()]

    def perplexities(self) -> list[float | None]:
        """Of all rows."""
        tables = (read_table(self.path(rows), ["perplexity"]) for rows in self.shards())
        return [one for table in tables for one in table.column(0).to_pylist()]

    def judge(self, rows: range, verdicts: Iterable[Verdict]) -> None:
        """Write the verdicts into a shard."""
        self._write(rows, list(zip(self.read(rows), verdicts, strict=True)))

    def _write(self, rows: range, written: Sequence[tuple[Row, Verdict | None]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        origin = asdict(self.about.origin)
        lacking = dict.fromkeys(one.name for one in fields(Verdict))
        records = [asdict(row) | (asdict(verdict) if verdict else lacking) | origin for row, verdict in written]
        table = pa.Table.from_pylist(records, schema=_schema())
        with writable(self.folder, "out=…"), replacing(self.path(rows)) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def asdict_all(given: Mapping[str, Any]) -> dict[str, Any]:
    """Dataclasses by name, as JSON has them."""
    return {name: asdict(given[name]) for name in sorted(given)}


def _schema() -> "pa.Schema":
    """The columns: of the row, of the verdict, of the origin."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    columns = []
    for owner in (Row, Verdict, Origin):
        for one in fields(owner):
            kind = next((kinds[k] for k in kinds if one.type in (k, k | None)), pa.list_(pa.string()))
            columns.append((one.name, kind))
    return pa.schema(columns)


def read_table(path: Path, columns: Sequence[str]) -> "pa.Table":
    """Columns of a shard, compared with its checksums. Raises UserError for a damaged one."""
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=list(columns), page_checksum_verification=True)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise UserError(f"{path} is damaged or gone; delete it, and {HOW} … writes it again") from error


def _whole(path: Path, rows: int) -> bool:
    import pyarrow.parquet as pq

    if not path.exists():
        return False
    try:
        return pq.read_metadata(path).num_rows == rows
    except (OSError, ValueError):
        rank_zero_warn(f"{path} is damaged; it is written again")
        return False


def _refuse_other_files(folder: Path) -> None:
    """Raise UserError for a folder in which something else lies: a README.md there would be replaced."""
    own = (ABOUT, COST, DATA)
    found = sorted(one.name for one in folder.iterdir() if one.name not in own and not one.name.startswith("."))
    if found:
        raise UserError(f"{folder} holds other files ({first_few(found)}); choose an empty or a new folder: out=…")


def _refuse_to_mix(folder: Path, there: About, origin: Origin, rows: int) -> None:
    """Raise UserError where the root holds text of another origin, or more of it than is asked for."""
    old, new = asdict(there.origin), asdict(origin)
    if old["teacher_hash"] is not None and old["teacher_hash"] == new["teacher_hash"]:
        del old["teacher"]  # the same one in another place
    overrides = OVERRIDES | ({"teacher": "endpoint.model"} if old["served_at"] and new["served_at"] else {})
    for key, value in old.items():
        if value == new[key]:
            continue
        hashes = f"{key} {value}, asked for {new[key]}"
        if key == "teacher_hash":
            raise UserError(
                f"{folder} holds text of other weights in teacher={origin.teacher} ({hashes}); set another out=…"
            )
        if key == "source_hash":
            raise UserError(
                f"{folder} holds text from other prompts ({hashes}); set the old file=… and template=…, or out=…"
            )
        override = overrides.get(key, key)
        mend = f"{override}={spelled(value)}"
        raise UserError(
            f"{folder} holds text of {mend}, asked for {spelled(new[key])}; go on with {mend}, or set out=…"
        )
    if rows < there.rows:
        raise UserError(f"{folder} holds {there.rows} rows, asked for {rows}; set rows={there.rows} or more, or out=…")
