"""The command `distillab cache`: writes what a served teacher is asked for, and files what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from distillab.commands.composition import compose
from distillab.commands.invocation import parse
from distillab.commands.served_words import snippets
from distillab.commands.words import understood
from distillab.core import output
from distillab.core.configuration import RunConfig, Text, Texts
from distillab.core.errors import UserError
from distillab.core.files import writable
from distillab.core.group import Group, group
from distillab.core.instantiate import build, did_you_mean
from distillab.core.output import rank_zero_print
from distillab.core.run_identity import own_folder, without_folder

if TYPE_CHECKING:
    from distillab.data.text.datamodule import TextData

ACTIONS = ("requests", "import")
HELP = """distillab cache requests <words of train.py> out=requests.jsonl
    writes what a served teacher is asked: a line for each part of the training text
distillab cache import <the same words> scheme=imported scheme.teacher=my_teacher scores=scores.jsonl
    files its answers, one file or several (scores=[a.jsonl,b.jsonl]), for train.py with the same words"""
MANUAL = "docs/served_teachers.md"


@group
class Files(Group):
    """What `distillab cache` takes beside the words of train.py."""

    out: Text = "requests.jsonl"
    scores: Texts = field(default_factory=list)


def cache(words: Sequence[str]) -> None:
    """Write requests, or import scores, by the words of a command line. Raises UserError."""
    if output.asks_for_help(words):
        rank_zero_print(f"{HELP}\nMore: {MANUAL}", result=True)
        return
    action, folder = next(iter(words), ""), own_folder(words)
    if action not in ACTIONS:
        raise UserError(
            f"distillab cache {action or '…'}: it takes {' or '.join(ACTIONS)}{did_you_mean(action, ACTIONS)} ({MANUAL})"
        )
    own, rest = [], []
    for word in understood(without_folder(words[1:])):
        if word.startswith("-"):
            raise UserError(f"{word}: distillab cache takes the words of train.py, and out=… or scores=… ({MANUAL})")
        (own if word.partition("=")[0] in ("out", "scores") else rest).append(word)
    files = Files.of(OmegaConf.to_container(OmegaConf.from_dotlist(own)))
    if action == "import":
        _check_scores(files)
    config = parse(OmegaConf.to_container(compose(rest, folder), resolve=True, throw_on_missing=False))
    with output.quietly(config.quiet):
        (_write if action == "requests" else _import)(config, files)


def _text(config: RunConfig) -> "TextData":
    """The text of a run, read and packed."""
    from distillab.schemes.imported import text_of

    data = text_of(build(config.data, "data"))
    data.prepare()
    return data


def _write(config: RunConfig, files: Files) -> None:
    from distillab.data.text.requests import write_requests

    data, out = _text(config), Path(files.out).expanduser()
    with writable(out, "out=…"):
        count, tokens, longest = write_requests(data, out)
    rank_zero_print(
        f"{out}: {count:,} requests of {tokens:,} tokens for {data.sizes['train']:,} blocks, the longest of {longest}",
        result=True,
    )
    top = config.cache.top_k or data.info.vocabulary
    rank_zero_print(snippets(top, out), result=True)


def _check_scores(files: Files) -> None:
    if not files.scores:
        raise UserError("scores is missing: scores=scores.jsonl names the file that the server's answers are in")
    for path in _paths(files):
        if not path.is_file():
            raise UserError(f"scores: there is no file {path}; scores=… names the one that the server's answers are in")


def _paths(files: Files) -> list[Path]:
    return [Path(one).expanduser() for one in files.scores]


def _import(config: RunConfig, files: Files) -> None:
    from distillab.data.text.requests import numbered
    from distillab.models.feature_info import FeatureInfo
    from distillab.schemes.imported import Imported, cache_of, imported_layout
    from distillab.strategies.strategy import Strategy
    from distillab.teachers.filing import Filing
    from distillab.teachers.scores import read_scores

    scheme = build(config.scheme, "scheme")
    if not isinstance(scheme, Imported):
        raise UserError("an import needs a name for the teacher: scheme=imported scheme.teacher=my_teacher")
    data = _text(config)
    info = FeatureInfo(scheme.called, (), None, data.info.vocabulary, None, positions=data.info.length)
    layout = imported_layout(config, Strategy.of(config.strategy), info)
    store = cache_of(config, data, scheme.called, layout)
    filing = Filing(store, numbered(data))
    with writable(store.root, "paths.store=…"):
        found = filing.take_all(chain.from_iterable(map(read_scores, _paths(files))))
    counts = {"now": found.scored, "before": found.known, "left": found.lines_left}
    rank_zero_print(_outcome(counts, filing.view.folder.parent), result=True)
    if found.lines_left:
        raise UserError(
            f"{found.lines_left:,} requests have no scores yet, the first of them {filing.first_lacking()}: score them and "
            f"import again; complete blocks are filed"
        )


def _outcome(counts: Mapping[str, Any], folder: Path) -> str:
    known = f", {counts['before']:,} were there before" if counts["before"] else ""
    return f"{counts['now']:,} requests filed in {folder}{known}"
