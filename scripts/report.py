"""Write the report over all runs: `python scripts/report.py runs [--out FILE]`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from distillab.core.errors import UserError
from distillab.reporting.report import write_report


def main() -> None:
    """Read the command line, write the report, say where it is."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="folder with the runs (paths.runs)")
    parser.add_argument("--out", type=Path, help="the page; RUNS/report.html unless said")
    given = parser.parse_args()
    try:
        page = write_report(given.runs, given.out or given.runs / "report.html")
        print("\n".join((*page.verdicts, str(page.path))))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
