"""Writes docs/methods.md and docs/reproduce.md: `python scripts/methods.py`; with --measure it first times a step of every method."""

import sys
from pathlib import Path

from methods_page import page, reproduce

if __name__ == "__main__":
    docs = Path(__file__).parents[1] / "docs"
    page.write(docs, measured="--measure" in sys.argv[1:])
    reproduce.write(docs)
