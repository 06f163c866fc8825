"""The command `distillab export`: exports the student of a run's folder, finished or interrupted."""

from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from distillab.commands.invocation import RUNS
from distillab.commands.own_words import read_words
from distillab.commands.run_folder import Places, check_named, check_weights, ended, typed, where_it_lies
from distillab.commands.shipping import exported, upload, write
from distillab.commands.sweep import command
from distillab.core import output
from distillab.core.configuration import RunConfig, TextOrNone
from distillab.core.errors import UserError
from distillab.core.exports import Formats, HubName
from distillab.core.files import locked
from distillab.core.group import group
from distillab.core.output import logged, rank_zero_print
from distillab.core.result import Result
from distillab.training.startup import import_quietly

HELP = """distillab export run=runs/<name>/<hash> format=onnx,torch_export,int8
    writes the student of a run in these formats, and proves each file on the whole test split
    of a run that is not finished: the student of its best epoch so far, proved on validation
push_to_hub=owner/name   uploads the model card and the student's files to the Hugging Face Hub
license=apache-2.0       of the student, for its model card
trust=true               calls classes outside of distillab, torchvision, timm and transformers that the run's files name
data.root=…, paths.store=…  where the run's data and its teacher lie now, if they were moved"""
MANUAL = "docs/export.md"


@group
class Words(Places):
    """What `distillab export` takes."""

    format: Formats = field(default_factory=list)
    push_to_hub: HubName = None
    license: TextOrNone = None


def export(words: Sequence[str]) -> None:
    """Do what the words of a command line ask for. Raises UserError."""
    if output.asks_for_help(words):
        rank_zero_print(f"{HELP}\nMore: {MANUAL}", result=True)
        return
    asked = Words.of(read_words(words, Words, "export", MANUAL))
    directory = Path(asked.run).expanduser()
    config = _config(asked, directory)
    held = locked(directory.with_name(f".{directory.name}.lock"), f"another process that is at {directory}", RUNS)
    with held, logged(directory / "log.txt", command()):
        result = ended(directory)
        if result is None:
            _interrupted(config, directory)
        else:
            _finished(result, config, directory)


def _config(asked: Words, directory: Path) -> RunConfig:
    """The config of a run's folder, with what is asked for now."""
    plain = where_it_lies(asked, directory)  # first: a wrong folder explains whatever else is wrong
    if not asked.format and not asked.push_to_hub and asked.license is None:
        raise UserError(f"format is missing: name one or several, e.g. format=onnx,int8 ({MANUAL})")
    if not asked.trust:
        check_named(
            plain, directory, "the run's own command with export=[…] exports it too, and so does trust=true here"
        )
    asks = {"export": asked.format, "push_to_hub": asked.push_to_hub}
    own = {"license": asked.license} if asked.license is not None else {}
    return typed({**plain, **asks, **own}, directory).on_devices(1)


def _finished(result: Result, config: RunConfig, directory: Path) -> None:
    check_weights(directory, result.weights)
    if config.license is not None:
        result = result.changed(config=result.config | {"license": config.license})
        write(result, directory)

    def student() -> Any:
        import_quietly(config.trainer.accelerator)
        from distillab.commands import steps, trained

        return trained.finished_student(result, config, directory, steps.check(config))

    result = exported(result, config, directory, student)
    if config.export:
        from distillab.reporting.exported import show_files

        show_files(result.exports, result.primary, directory)
    upload(result, config, directory)


def _interrupted(config: RunConfig, directory: Path) -> None:
    if config.push_to_hub or config.license:
        raise UserError(
            f"{directory} is not finished: its student has no model card yet; leave push_to_hub, license out"
        )
    import_quietly(config.trainer.accelerator)
    from distillab.commands import steps, trained
    from distillab.core.result_parts import Primary
    from distillab.reporting.exported import show_files

    made = trained.interrupted_student(replace(config, export=[]), directory, steps.check(config))
    task = made.task
    primary = Primary(name=task.primary, value=0, higher_is_better=task.higher_is_better)
    show_files([*made.files(config.export)], primary, directory, split=made.split)
