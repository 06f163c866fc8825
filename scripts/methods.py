"""Writes docs/methods.md: `python scripts/methods.py`; with --measure it first times a step of every method."""

import sys
from pathlib import Path

from methods_page.page import write

if __name__ == "__main__":
    write(Path(__file__).parents[1] / "docs", measured="--measure" in sys.argv[1:])
