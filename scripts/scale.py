"""Writes docs/scale.md: `python scripts/scale.py`; with --measure it first measures what docs/scale.json holds."""

from argparse import ArgumentParser
from dataclasses import fields
from pathlib import Path

from scale.page import Scale, write

from distillab.core.errors import UserError

if __name__ == "__main__":
    docs = Path(__file__).parents[1] / "docs"
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--output", type=Path, default=docs / "scale.md", metavar="FILE")
    for field in fields(Scale):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    asked = vars(parser.parse_args())
    measured, output = asked.pop("measure"), asked.pop("output")
    try:
        write(output, docs, Scale(**asked), measured)
    except UserError as error:
        parser.error(str(error))
