"""Writes a root of synthetic text: what is missing, then the verdicts of the filters, then the card."""

import hashlib
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from distillab.core import output
from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.core.stopping import Stopped
from distillab.data.text.synthetic.card import write_card
from distillab.data.text.synthetic.config import ENDPOINT, Generation, described, parse
from distillab.data.text.synthetic.filters import HeldOut, Judge, held_out_of
from distillab.data.text.synthetic.progress import Progress
from distillab.data.text.synthetic.prompts import read_prompts, texts_hash
from distillab.data.text.synthetic.rows import Origin, Writer
from distillab.data.text.synthetic.shards import Cost, Root


def generate(config: Generation, writer: Writer | None = None) -> Path:
    """Write what the root lacks, judge all rows, write the card; returns the root. Raises UserError.

    A command that was stopped goes on at the first file that it had not finished. Other filters alone are judged anew.
    """
    prompts, held_out = read_prompts(config), held_out_of(config.filters)
    writer = writer or _writer(config)
    rows = config.rows or len(prompts)
    with Root.opened(Path(config.out), Origin.of(config, writer, texts_hash(prompts)), rows) as root:
        _write(root, prompts, writer, config)
        _judge(root, config, held_out)
        rank_zero_print(write_card(root, config), result=True)
    return Path(config.out)


def _writer(config: Generation) -> Writer:
    if config.teacher == ENDPOINT:
        from distillab.data.text.synthetic.endpoint import Endpoint

        return Endpoint(config)
    from distillab.data.text.synthetic.teacher import load

    return load(config)


def _write(root: Root, prompts: Sequence[str], writer: Writer, config: Generation) -> None:
    """Write the shards that are missing."""
    missing = root.missing()
    if not missing:
        return
    root.note(None)
    writer.check(prompts[: root.about.rows])
    total = root.about.rows
    progress = Progress(total, total - sum(map(len, missing)), config.price_per_hour)
    for rows in missing:
        seconds, tokens = progress.seconds, progress.tokens
        with progress.writing():
            written = writer.write(((row, prompts[row % len(prompts)]) for row in rows), progress.report)
        cost = Cost(progress.seconds - seconds, progress.tokens - tokens, writer.device)
        root.publish(rows, written, cost)
    rank_zero_print(progress.line())


def _judge(root: Root, config: Generation, held_out: HeldOut | None) -> None:
    """Give every row its verdict, unless it has one of the same filters."""
    about = json.dumps([asdict(config.filters), held_out.hash if held_out else None])
    wanted = hashlib.sha256(about.encode()).hexdigest()[:16]
    if root.about.judged == wanted:
        return
    judge = Judge(config.filters, root.perplexities(), held_out)
    root.note(None)
    for rows in root.shards():
        root.judge(rows, judge.verdicts(root.read(rows)))
    root.note(wanted)


def main(words: Sequence[str]) -> int:
    """The command: its exit code."""
    if not words or output.asks_for_help(words):
        print(f"python scripts/generate.py key=value …   (docs/synthetic.md)\n\n{described()}")
        return 0
    try:
        config = parse(words)
        with output.quietly(config.quiet):
            generate(config)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f'error: {error.name} is not installed: pip install "distillab[language]"', file=sys.stderr)
        return 1
    except Stopped as error:
        if error.number != signal.SIGPIPE:
            with suppress(OSError):
                print(f"{error}; finished files are kept, and the same command goes on", file=sys.stderr)
        return error.code
