"""The data set card of a root: what it is, who wrote it, how, what each filter rejects, what it cost."""

import json
import shlex
from dataclasses import asdict

from distillab.core.files import replacing, writable
from distillab.data.text.synthetic.config import Generation
from distillab.data.text.synthetic.filters import FILTERS
from distillab.data.text.synthetic.kept import shares
from distillab.data.text.synthetic.progress import cost
from distillab.data.text.synthetic.shards import DATA, Root

CARD = """---
configs:
- config_name: default
  data_files: {data}/*.parquet
---

# Synthetic text

{rows:,} texts, of which {kept:,} are kept. {teacher} wrote them{source}.

Rows that a filter rejects stay in the files, with `kept` false:

    from datasets import load_dataset
    rows = load_dataset("parquet", data_files="{data}/*.parquet", split="train")
    kept = rows.filter(lambda row: row["kept"])

| filter | rejected | share |
| --- | --- | --- |
{filters}

A row may be rejected by several filters. Their settings:

    {settings}

## Provenance

| | |
| --- | --- |
{origin}
| tokens written | {tokens} |
| cost | {cost} |

`perplexity` is that of what the teacher wrote, under itself at temperature 1; `duplicate_of` is the `row` of an earlier
text that is nearly the same; `overlap` counts the n-grams that held-out text has too.

Written by:

    {command}
"""
SOURCES = {
    "prompts": " from prompts",
    "topics": " from topics in a template",
    "bos": " from nothing but the token that begins a text",
    "documents": " as the continuation of the first tokens of documents",
}


def write_card(root: Root, config: Generation) -> str:
    """Write README.md into a finished root; returns one line about it."""
    origin, rows = root.about.origin, root.about.rows
    kept, against = shares(root)
    costs = root.costs()
    seconds, tokens = sum(one.seconds for one in costs.values()), sum(one.tokens for one in costs.values())
    told = cost(seconds, config.price_per_hour)
    devices = ", ".join(sorted({one.device for one in costs.values()}))
    lines = {
        "filters": "\n".join(f"| {name} | {against[name]:,} | {against[name] / rows:.1%} |" for name in FILTERS),
        "settings": json.dumps(asdict(config.filters)),
        "origin": "\n".join(f"| {key} | {_cell(value)} |" for key, value in asdict(origin).items()),
        "command": shlex.join(["python", "scripts/generate.py", *config.command]),
    }
    text = CARD.format(
        data=DATA,
        rows=rows,
        kept=kept,
        teacher=_cell(origin.teacher),
        source=SOURCES[origin.source],
        tokens=f"{tokens:,}",
        cost=f"{told} on {devices}" if devices else "unknown",
        **lines,
    )
    with writable(root.folder, "out=…"), replacing(root.folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    most = ", ".join(f"{name} {against[name] / rows:.1%}" for name in FILTERS if against[name])
    return f"{kept}/{rows} texts kept (rejected: {most or 'none'}) · {tokens} tokens · {told} · {root.folder}"


def _cell(value: object) -> str:
    return "–" if value is None else f"`{value}`"
