"""What is written for others to read: on the disk before it is seen, and no rest of a killed process."""

import os
import threading
import time

import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from distillab.core import files
from distillab.core.errors import UserError
from distillab.core.files import HOST, OLD, locked, replacing


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path, done = tmp_path / "result.json", []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda opened: (done.append(os.readlink(f"/proc/self/fd/{opened}")), sync(opened))
    )
    monkeypatch.setattr(files.os, "replace", lambda *pair: (done.append("replace"), replace(*pair)))
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert done == [str(temporary), "replace", str(tmp_path)] and path.read_text() == "whole"
    with pytest.raises(ValueError, match="half"), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError("half")
    assert path.read_text() == "whole" and os.listdir(tmp_path) == ["result.json"]


def test_rests_of_killed_processes_are_swept_up_and_no_other_file(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead, alive = f".last.ckpt.{HOST}.{child}-1.tmp", f".last.ckpt.{HOST}.{os.getppid()}-1.tmp"
    elsewhere, old, own = ".a.json.other-host.1-1.tmp", ".b.json.other-host.1-2.tmp", ".mine.tmp"
    for name in (dead, alive, elsewhere, old, own):
        (tmp_path / name).write_text("")
    for name in (old, own):
        os.utime(tmp_path / name, (time.time() - 2 * OLD,) * 2)
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("")
    assert set(os.listdir(tmp_path)) == {"file", alive, elsewhere, own}


def test_what_fails_under_a_lock_leaves_nothing_and_who_waits_holds_a_lock_of_their_own(tmp_path, monkeypatch):
    """A waiting process must not hold the deleted file, beside which the next one would make its own."""
    lock = tmp_path / "runs" / "mine" / ".one.lock"
    waits = threading.Event()
    monkeypatch.setattr(files, "rank_zero_print", lambda _: waits.set())
    found = []

    def wait():
        with locked(lock, "the first", ""):
            with pytest.raises(Timeout):
                FileLock(lock, timeout=0).acquire()
            found.append(lock.is_file())
            lock.with_name("kept").write_text("")

    second = threading.Thread(target=wait)
    with pytest.raises(UserError, match="refused"), locked(lock, "", ""):
        second.start()
        waits.wait(10)
        raise UserError("refused")
    second.join(10)
    assert found == [True] and lock.with_name("kept").is_file(), "the second one ended well"
    with pytest.raises(KeyboardInterrupt), locked(lock, "", ""):
        raise KeyboardInterrupt
    assert os.listdir(lock.parent) == ["kept"]
    lock.with_name("kept").unlink()
    with pytest.raises(KeyboardInterrupt), locked(lock.parent / "store" / "a" / ".lock", "", ""):
        raise KeyboardInterrupt
    assert not os.listdir(lock.parent), "only folders that were made for the lock go"


def test_a_file_has_the_permissions_of_any_new_one_whoever_writes_it(tmp_path):
    with replacing(tmp_path / "weights") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
        temporary.chmod(0o600)  # as safetensors leaves it
    (tmp_path / "plain").touch()
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode
