"""`distillab cache requests`, and `import scores=…`: writes what a served teacher is asked for, and files its answers."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.commands.served_words import snippets
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.core.files import writable
from distillab.core.instantiate import build
from distillab.core.output import rank_zero_print

if TYPE_CHECKING:
    from distillab.data.text.datamodule import TextData


def _text(config: RunConfig) -> "TextData":
    """The text of a run, read and packed."""
    from distillab.schemes.imported import text_of

    data = text_of(build(config.data, "data"))
    data.prepare()
    return data


def write(config: RunConfig, out: Path) -> None:
    """Write requests. Raises UserError."""
    from distillab.data.text.requests import write_requests

    data = _text(config)
    with writable(out, "out=…"):
        count, tokens, longest = write_requests(data, out)
    rank_zero_print(
        f"{out}: {count:,} requests of {tokens:,} tokens for {data.sizes['train']:,} blocks, the longest of {longest}",
        result=True,
    )
    top = config.cache.top_k or data.info.vocabulary
    rank_zero_print(snippets(top, out), result=True)


def take(config: RunConfig, scores: Sequence[Path]) -> None:
    """File scores. Raises UserError."""
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
        found = filing.take_all(chain.from_iterable(map(read_scores, scores)))
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
