"""Canaries of a teacher's text, measured in students that learn from its answers, from its text, and from neither."""

import runpy
from pathlib import Path

import pytest
from helpers.texts import write

from distillab.core.errors import UserError

main = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "written_canaries.py"))["main"]
SMALL = ("data=text", "logger=none", "equal_compute=false", "strategy=kd", "data.vocabulary=300", "data.length=32")
SMALL += ("data.samples=16", "recipe.epochs=1", "teacher.recipe.epochs=1", "cache.top_k=16", "doctor=false")
SMALL += ("teacher.width=16", "teacher.hidden=24", "teacher.layers=1", "student.width=16", "student.hidden=24")


def test_every_role_has_an_exposure(tmp_path, capsys, unmeasured):
    words = [*SMALL, f"data.path={write(tmp_path, 20)}", f"paths.runs={tmp_path}/runs", f"paths.store={tmp_path}/store"]
    main([*words, "data.canaries=4", "rows=24", "max_new_tokens=48", f"out={tmp_path}/written"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "exposure in bits", *(f"planted {count} times" for count in (1, 4, 16, 64)), "all", "bits per byte",
    ]  # fmt: skip
    table = {row[0]: row[1:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])}
    names = ("the teacher", "the student, from its distribution", "the student, from its text", "the student alone")
    for name in names:
        *each, mean, bits = map(float, table[name])
        assert all(0 <= one <= 10 for one in each) and bits > 0
        assert mean == pytest.approx(sum(each) / 4, abs=0.1)
    assert len(list((tmp_path / "written").glob("*/teacher/config.json"))) == 1


def test_text_without_canaries_is_refused():
    with pytest.raises(UserError, match=r"data\.canaries=32"):
        main([*SMALL, "data.path=.", "data.canaries=0"])
