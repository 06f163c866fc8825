"""Lines for the person on any terminal, pipe and disk; quiet runs and their log."""

import io
import os
import subprocess
import sys

import pytest

import distillab
from distillab.core import output
from distillab.core.errors import UserError
from distillab.core.stopping import Stopped

MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'distillab'; from distillab.commands.cli import main; main()"]


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_a_quiet_run_prints_warnings_and_its_result_and_logs_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output, "_before", [])  # of other tests
    for quiet in (True, False):
        with output.quietly(quiet), output.logged(tmp_path / "log.txt", "python train.py"):
            output.rank_zero_print("an epoch")
            output.rank_zero_print("\x1b[1mthe table\x1b[0m", result=True)
            output.rank_zero_warn("take care")
    assert not output.is_quiet()
    shown = capsys.readouterr()
    assert shown.out.replace("\x1b[1m", "").replace("\x1b[0m", "") == "the table\nan epoch\nthe table\n"
    assert shown.err == 2 * "warning: take care\n"
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[1:4] == lines[5:8] == ["an epoch", "the table", "warning: take care"]
    assert lines[0].endswith(" python train.py"), "the time and the command, each time that the run goes on"


def test_what_was_said_before_the_folder_was_there_begins_its_log(tmp_path):
    with output.logged(tmp_path / "earlier.txt", "before"):
        pass
    with output.quietly(True):
        output.rank_zero_print("the head starts anew")
    for name in ("first.txt", "second.txt"):
        with output.logged(tmp_path / name, "python train.py"):
            output.rank_zero_print("epoch 1")
    read = [(tmp_path / name).read_text().splitlines()[1:] for name in ("first.txt", "second.txt")]
    assert read == [["the head starts anew", "epoch 1"], ["epoch 1"]]


def test_a_log_that_finds_no_room_stops_nothing(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    for place in (tmp_path / "log.txt", tmp_path / "absent" / "log.txt"):
        with output.logged(place, "python train.py"):
            output.rank_zero_print("an epoch")
    shown = capsys.readouterr()
    assert shown.out == "an epoch\nan epoch\n"
    assert [line.partition(" (")[2].partition(")")[0] for line in shown.err.splitlines()] == [
        "No space left on device",
        "No such file or directory",
    ]


def test_an_output_that_cannot_be_written_is_one_line_and_one_that_nobody_reads_ends_the_run(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"cannot write the output \(No space left on device\)"):
        output.rank_zero_print("a line")
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError()))
    with pytest.raises(Stopped) as stopped:
        output.rank_zero_print("a line")
    assert stopped.value.code == 141
    monkeypatch.setattr(sys, "stderr", Broken(BrokenPipeError()))
    output.rank_zero_warn("there is no other place to say it")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "-1.5 +-2 x3 -> ?"), ("latin-1", "-1.5 ±2 ×3 -> ?")])
def test_a_letter_that_the_output_does_not_have_is_a_plain_one(encoding, shown, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    monkeypatch.setattr(output.os, "environ", {})
    output.take_any_letter()
    output.rank_zero_print("−1.5 ±2 ×3 → λ")
    assert raw.getvalue().decode(encoding) == f"{shown}\n"


def test_help_into_a_full_disk_is_one_line_and_into_a_closed_pipe_none():
    plain = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    with open("/dev/full", "w") as full:
        done = subprocess.run([*MAIN, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=plain)
    assert done.returncode == 1 and "No space left" in done.stderr and done.stderr.count("\n") == 1
    reader = subprocess.Popen([*MAIN, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain)
    reader.stdout.close()
    assert reader.stderr.read() == "" and reader.wait() == 141


def test_the_command_says_its_version(monkeypatch, capsys):
    from distillab.commands import cli

    monkeypatch.setattr(sys, "argv", ["distillab", "--version"])
    assert cli._command() == 0 and capsys.readouterr().out.startswith(f"distillab {distillab.__version__}")
