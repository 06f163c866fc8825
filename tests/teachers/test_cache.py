"""The teacher cache on disk: what is rounded, shared, damaged, full, or of another key."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers.numbers import draw

from distillab.core.errors import UserError
from distillab.teachers import cache, shards
from distillab.teachers.cache import TeacherCache
from distillab.teachers.layout import Layout

FORK = multiprocessing.get_context("fork")  # the children share the small shards


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 8)


def outputs(count=20, classes=10, seed=0):
    return SimpleNamespace(logits=draw(count, classes, seed=seed).float() * 3, embedding=draw(count, 4, seed=1).float())


def make(root, layout=None, key="teacher", samples=20, limit=1e9):
    return TeacherCache(root, {"teacher": key}, layout or Layout(10), samples=samples, limit=limit, strong={})


def encode(layout, found):
    return layout.pack(layout.narrow(found))


def records(layout, rows, seed=0):
    return encode(layout, outputs(seed=seed))[rows]


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0), ("float16", 2e-3)])
def test_dense_records_hold_the_rounded_outputs(dtype, error):
    layout, given = Layout(10, embedding=4, dtype=dtype), outputs()
    back = layout.decode(encode(layout, given))
    assert (back.logits - given.logits).abs().max() <= error * given.logits.abs().max()
    assert (back.embedding - given.embedding).abs().max() <= error * given.embedding.abs().max()
    again = layout.decode(encode(layout, back))  # what was rounded once is not rounded any further
    assert torch.equal(again.logits, back.logits)


def test_top_k_keeps_the_largest_probabilities_and_the_mass_of_the_rest():
    layout, given = Layout(10, top_k=3), outputs()
    p, q = given.logits.softmax(-1), layout.decode(encode(layout, given)).logits.softmax(-1)
    top = p.topk(3).indices
    assert torch.allclose(p.gather(1, top), q.gather(1, top), atol=1e-6)
    assert torch.allclose(q.sum(-1), torch.ones(20)) and q.scatter(1, top, 0).amax(-1).allclose(
        (1 - p.gather(1, top).sum(-1)) / 7, atol=1e-6
    )


def test_bytes_of_a_sample():
    assert Layout(100, dtype="float16").record.itemsize == 200
    assert Layout(100, dtype="float16", top_k=8).record.itemsize < 40


@pytest.mark.parametrize("arguments", [{"top_k": 10}, {"top_k": 0}, {"top_k": 2.5}, {"top_k": True}])
def test_a_wrong_layout_is_one_line(arguments):
    with pytest.raises(UserError, match=r"cache\.top_k must"):
        Layout(10, **arguments)


def test_what_one_run_published_another_reads_and_completes(tmp_path):
    layout, first, second = Layout(10), np.arange(0, 12), np.arange(10, 20)
    one, other = make(tmp_path), make(tmp_path)
    mine, theirs = one.view(3), other.view(3)  # both look before either has written
    mine.add(first, records(layout, first))
    theirs.add(second, records(layout, second, seed=5))
    one.publish()
    other.publish()
    whole = make(tmp_path).view(3)
    assert whole.present.all()
    assert np.array_equal(whole.read(first), records(layout, first))  # what is published stays, where both have it
    assert np.array_equal(whole.read(np.arange(12, 20)), records(layout, np.arange(12, 20), seed=5))
    assert np.array_equal(theirs.read(second), whole.read(second))
    assert not make(tmp_path).view(4).present.any() and not make(tmp_path).view(3, kind=1).present.any()


def test_present_records_stay(tmp_path):
    layout, rows, store = Layout(10), np.arange(20), make(tmp_path)
    store.view(0).add(rows, records(layout, rows))
    store.view(0).add(rows, records(layout, rows, seed=9))
    assert np.array_equal(store.view(0).read(rows[::-1]), records(layout, rows[::-1]))


def test_another_key_or_layout_is_not_read(tmp_path):
    store, rows = make(tmp_path), np.arange(20)
    store.view(0).add(rows, records(Layout(10), rows))
    store.publish()
    assert make(tmp_path).view(0).present.all()
    for other in (make(tmp_path, key="other"), make(tmp_path, Layout(10, dtype="float16")), make(tmp_path, samples=21)):
        assert not other.view(0).present.any()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "other key"])
def test_a_damaged_file_is_named_and_built_again(damage, tmp_path, capsys):
    store, rows = make(tmp_path), np.arange(20)
    store.view(0).add(rows, records(Layout(10), rows))
    store.publish()
    file = sorted(tmp_path.rglob("*.shard"))[1]
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            content = content[:-1]
        case "flipped":
            content[-5] ^= 1
        case "empty":
            content = b""
        case "text":
            content = b"no cache"
        case "other key":
            content = content.replace(b"/0/0", b"/1/0")
    file.unlink()
    file.write_bytes(content)
    again = make(tmp_path)
    assert again.view(0).present.sum() == 12  # the other two files are whole
    again.view(0).add(rows, records(Layout(10), rows))
    again.publish()
    assert capsys.readouterr().err.count(str(file)) == 1  # it is looked at twice
    assert make(tmp_path).view(0).present.all()


def test_what_others_publish_is_seen_in_the_same_view(tmp_path):
    """As with one view for all epochs; what one has added itself stays until it is published, and the earlier record wins."""
    layout = Layout(10)
    one, other = make(tmp_path, layout).view(0), make(tmp_path, layout).view(0)
    one.add(np.arange(5), records(layout, np.arange(5)))
    one.publish()
    other.add(np.arange(4, 7), records(layout, np.arange(4, 7), seed=9))
    assert not other.present[:4].any()
    other.refresh()
    assert other.present[:7].all() and not other.present[7:].any()
    assert np.array_equal(other.read(np.arange(5)), records(layout, np.arange(5)))
    other.publish()
    loads = []
    one._load = lambda start, load=one._load: loads.append(start) or load(start)
    for _ in range(2):
        one.refresh()
    assert one.present[:7].all() and loads == [0], "an unchanged file is not read again"


def test_two_processes_fill_the_same_views_at_once(tmp_path):
    layout, rows = Layout(10), np.arange(20)
    whole = records(layout, rows)

    def fill(first):
        store = make(tmp_path)
        for number in range(20):
            for part in (rows[first::2], rows[1 - first :: 2]):  # each half from one before the other has it
                store.view(number).add(part, whole[part])
                store.publish()

    both = [FORK.Process(target=fill, args=(first,)) for first in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    store = make(tmp_path)
    for number in range(20):
        view = store.view(number)
        assert view.present.all() and view.read(rows).tobytes() == whole.tobytes()


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    store, rows = make(tmp_path), np.arange(20)
    store.view(0).add(rows, records(Layout(10), rows))
    store.view(0).folder.mkdir(parents=True)

    def die():
        held = FileLock(store.view(0).folder / ".lock")
        held.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and (store.view(0).folder / ".lock").exists()
    store.publish()
    assert make(tmp_path).view(0).present.all()


def test_what_a_killed_process_left_half_written_goes_with_the_next_publishing(tmp_path, monkeypatch):
    store, rows = make(tmp_path), np.arange(20)
    store.view(0).add(rows, records(Layout(10), rows))

    def die():
        monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        store.publish()

    process = FORK.Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and list(tmp_path.rglob("*.tmp"))
    store.publish()
    assert not list(tmp_path.rglob("*.tmp")) and make(tmp_path).view(0).present.all()


def test_the_last_bytes_of_a_disk_are_left_to_checkpoints(tmp_path, capsys, monkeypatch):
    rows, takes = np.arange(20), Layout(10).bytes(20)
    for total, kept in ((1e12, 1e9), (1e9, 5e7)):  # a gigabyte; of a small disk a twentieth
        for free, fits in ((kept + takes, True), (kept + takes - 1, False)):
            usage = shutil._ntuple_diskusage(total, total - free, free)
            monkeypatch.setattr(cache.shutil, "disk_usage", lambda _, usage=usage: usage)
            store = make(tmp_path / f"{total}-{free}")
            store.view(0).add(rows, records(Layout(10), rows))
            store.publish()
            assert store.filling == fits == bool(list(store.root.rglob("*.shard")))
            assert fits or f"{kept / 1e9:.2f} GB stay free for checkpoints" in capsys.readouterr().err


def test_no_room_ends_the_filling_with_one_line(tmp_path, capsys, monkeypatch):
    rows = np.arange(20)
    full = make(tmp_path / "limit", limit=100)
    full.view(0).add(rows, records(Layout(10), rows))
    full.view(1)
    assert not full.filling and "cache.limit_gb" in capsys.readouterr().err
    room = make(tmp_path / "room", limit=Layout(10).bytes(20) + 1000)
    for part in (rows[:10], rows[10:]):
        room.view(0).add(part, records(Layout(10), part))
        room.publish()
    assert room.filling, "a view's own files are no others that it must fit beside"
    broken = make(tmp_path / "disk")
    broken.view(0).add(rows, records(Layout(10), rows))

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.View, "_write", no_space)
    broken.publish()
    assert not broken.filling and "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "disk").rglob("*.shard")) + list((tmp_path / "limit").rglob("*.shard"))


def test_files_are_counted_once_and_a_views_growth_is_added(tmp_path, monkeypatch):
    layout, looks = Layout(10), []
    monkeypatch.setattr(
        Path, "rglob", lambda self, pattern, rglob=Path.rglob: looks.append(self) or rglob(self, pattern)
    )
    cache = make(tmp_path, layout)
    for number in range(3):
        for part in (slice(0, 10), slice(10, 20)):
            cache.view(number).add(np.arange(20)[part], records(layout, np.arange(20)[part]))
            cache.publish()
    assert len(looks) == 1
    assert cache.bytes_taken() == sum(path.stat().st_size for path in tmp_path.glob("*/*/*.shard"))
    assert cache.has(2) and not cache.has(3) and not cache.has(2, kind=1)


def test_two_kinds_of_a_view_are_published_together(tmp_path):
    layout = Layout(10)
    cache = make(tmp_path, layout)
    for rows in (np.arange(10), np.arange(10, 20)):
        for kind in (0, 1):
            cache.view(0, kind).add(rows, records(layout, rows))
            assert not list(tmp_path.rglob("*.shard"))  # the other kind is no reason to write
    cache.view(1)
    assert cache.has(0, 0) and cache.has(0, 1)
    assert make(tmp_path, layout).view(0, 1).present.all()
