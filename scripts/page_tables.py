"""Markdown tables, and the pages of docs/ that hold them between markers."""

import re
from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Iterable[int] = (0,)) -> str:
    """A table whose columns are aligned right, those numbered in `left` excepted."""
    rule = ["---" if column in set(left) else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def fill(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between the markers `<!-- its name -->` and `<!-- end -->`; KeyError for another name."""
    between = r"(?s)(<!-- (\w+) -->\n\n).*?(\n\n<!-- end -->)"
    return re.sub(between, lambda at: at[1] + tables[at[2]] + at[3], page)
