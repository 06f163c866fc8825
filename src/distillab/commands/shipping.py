"""What leaves a run: its result and model card, the student's further files, and the upload to the Hugging Face Hub."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distillab.commands.invocation import RUNS
from distillab.core.exports import FORMATS, ExportedFile
from distillab.core.files import file_hash, replacing, writable, write_json
from distillab.core.result import FINISHED, Result
from distillab.reporting.model_card import model_card

if TYPE_CHECKING:
    from distillab.commands.exporting import Export
    from distillab.core.configuration import RunConfig


def write(result: Result, directory: Path) -> None:
    """Put the student's model card and, last, the result into the run's folder."""
    with writable(directory, RUNS):
        with replacing(directory / "README.md") as temporary:
            temporary.write_text(model_card(result, directory / "student.safetensors"), encoding="utf-8")
        write_json(directory / "result.json", result.as_json())
        if result.status == FINISHED:
            (directory / ".rerun").unlink(missing_ok=True)


def missing(result: Result, directory: Path, formats: list[str]) -> list[str]:
    """Those of the formats whose file a finished run does not have as it was proved."""
    made = {one.format for one in result.exports if one.format in formats and _as_proved(one, directory / one.file)}
    return [name for name in formats if name not in made]


def _as_proved(one: ExportedFile, path: Path) -> bool:
    """Whether the file at a path is the one that was proved; of results of earlier versions its size alone is known."""
    alike = path.is_file() and path.stat().st_size == one.size_bytes
    return alike and (one.sha256 is None or one.sha256 == file_hash(path))


def to_ship(result: Result, config: "RunConfig", directory: Path) -> bool:
    """Whether a finished run lacks a format that is asked for, or is to be uploaded."""
    return bool(config.push_to_hub or missing(result, directory, config.export))


def exported(result: Result, config: "RunConfig", directory: Path, student: Callable[[], "Export"]) -> Result:
    """The result with the formats that it lacked, each written down as soon as its file is proved; UserError for others."""
    wanted = missing(result, directory, config.export)
    for file in student().files(wanted) if wanted else ():
        made = {one.format: one for one in (*result.exports, file)}
        result = result.changed(exports=[made[name] for name in FORMATS if name in made])
        write(result, directory)
    return result


def upload(result: Result, config: "RunConfig", directory: Path) -> None:
    """Upload the run's card and student, where the config names a repository."""
    if config.push_to_hub is not None:
        from distillab.commands.hub import push

        push(result, directory, config.push_to_hub)
