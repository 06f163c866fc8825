"""The command `distillab cache`: what a cache holds, moved and checked; what a served teacher is asked, and answers."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated

from omegaconf import OmegaConf

from distillab.commands import archived, served
from distillab.commands.composition import compose
from distillab.commands.invocation import parse
from distillab.commands.words import understood
from distillab.core import output
from distillab.core.allowed import Range
from distillab.core.configuration import RunConfig, Text, TextOrNone, Texts
from distillab.core.errors import UserError
from distillab.core.group import Group, group
from distillab.core.instantiate import did_you_mean
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import own_folder, without_folder

HELP = """distillab cache check <words of train.py> share=0.05 tolerance=0.002
    runs the teacher of images again on a share of what its cache holds; exit code 1 above the tolerance
distillab cache export <words of train.py> out=cache.zip
distillab cache import <the same words> archive=cache.zip
    take the cache of a teacher of images to another machine, in one file
distillab cache requests <words of train.py> out=requests.jsonl
    writes what a served teacher is asked: a line for each part of the training text
distillab cache import <the same words> scheme=imported scheme.teacher=my_teacher scores=scores.jsonl
    files its answers, one file or several (scores=[a.jsonl,b.jsonl]), for train.py with the same words"""
MANUAL = "docs/performance.md, and docs/served_teachers.md for served teachers"
TAKES = {  # each action, and what it takes beside the words of train.py
    "check": ("share", "tolerance"),
    "export": ("out",),
    "import": ("archive", "scores"),
    "requests": ("out",),
}


@group
class Files(Group):
    """What `distillab cache` takes beside the words of train.py."""

    out: TextOrNone = None
    scores: Texts = field(default_factory=list)
    archive: TextOrNone = None
    share: Annotated[float, Range(above=0, high=1)] = 0.05
    tolerance: Annotated[float | None, Range(0, null=True)] = None


def cache(words: Sequence[str]) -> None:
    """Do what the words of a command line ask of a cache. Raises UserError."""
    if output.asks_for_help(words):
        rank_zero_print(f"{HELP}\nMore: {MANUAL}", result=True)
        return
    action, folder = next(iter(words), ""), own_folder(words)
    if action not in TAKES:
        allowed = ", ".join(TAKES)
        raise UserError(
            f"distillab cache {action or '…'}: it takes {allowed}{did_you_mean(action, list(TAKES))} ({MANUAL})"
        )
    names = {name for taken in TAKES.values() for name in taken}
    takes = f"takes the words of train.py, and {' or '.join(f'{name}=…' for name in TAKES[action])} ({MANUAL})"
    own, rest = [], []
    for word in understood(without_folder(words[1:])):
        name = word.partition("=")[0]
        if word.startswith("-") or name in names - set(TAKES[action]):
            raise UserError(f"{word}: distillab cache {action} {takes}")
        (own if name in names else rest).append(word)
    files = Files.of(OmegaConf.to_container(OmegaConf.from_dotlist(own)))
    if action == "import":
        _check_files(files)
    config = parse(OmegaConf.to_container(compose(rest, folder), resolve=True, throw_on_missing=False), rest)
    with output.quietly(config.quiet):
        _do(action, config.on_devices(1), files)


def _do(action: str, config: RunConfig, files: Files) -> None:
    out = files.out and Path(files.out).expanduser()
    if action == "check":
        archived.check(config, files.share, files.tolerance)
    elif action == "export":
        archived.export(config, out or Path("cache.zip"))
    elif action == "requests":
        served.write(config, out or Path("requests.jsonl"))
    elif files.archive:
        archived.take(config, Path(files.archive).expanduser())
    else:
        served.take(config, _paths(files.scores))


def _check_files(files: Files) -> None:
    if bool(files.scores) == bool(files.archive):
        what = "one of them is needed" if files.scores else "both are missing"
        raise UserError(
            f"archive=cache.zip names what `cache export` wrote, scores=scores.jsonl what a server answered: {what}"
        )
    for name, given in (("archive", [files.archive] if files.archive else []), ("scores", files.scores)):
        for path in _paths(given):
            if not path.is_file():
                raise UserError(f"{name}: there is no file {path}; {name}=… names the one to import")


def _paths(given: Sequence[Text]) -> list[Path]:
    return [Path(one).expanduser() for one in given]
