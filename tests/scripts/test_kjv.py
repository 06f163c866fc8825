"""The script that reads a Bible's literals: chapters by their verses, nothing executed."""

import runpy
from pathlib import Path

chapters = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "kjv.py"))["chapters"]

SOURCE = '''
raise SystemExit("this is not run")
bible = Bible(Version.X, """
One. Two.
Three.
Four.""",
    {1001001: 1, 1001002: 6, 1002001: 11, 40001001: 18}, {1001001: 5, 1001002: 10, 1002001: 17, 40001001: 23},
    {Book.GENESIS: "x"}, False)
'''


def test_chapters_are_cut_at_their_verses_and_know_their_testament():
    assert chapters(SOURCE) == [
        {"text": "One. Two.", "kind": "Old Testament"},
        {"text": "Three.", "kind": "Old Testament"},
        {"text": "Four.", "kind": "New Testament"},
    ]
