"""The files of a run: what a stop, a kill or damage leaves, and how the next command goes on from it."""

import errno
import os
from pathlib import Path

import pytest
from helpers.small_run import run

from distillab.commands import experiment, testing
from distillab.core import files
from distillab.core.errors import UserError
from distillab.reporting import leaderboard

TINY = ("student=resnet8", "teacher=resnet8", "logger=none", "data.samples=64", "recipe.epochs=3")
TINY += ("teacher.recipe.epochs=1", "equal_compute=false")


def folder_of(place, result):
    return place / "runs" / result.name / result.config_hash


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


def stopped(*_):
    raise KeyboardInterrupt


def killed(*_):
    raise OSError("killed")


def flip(path, at=-200):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_run_whose_last_checkpoint_is_cut_goes_on_from_the_best_to_the_same_weights(place, unmeasured, capsys):
    first = run(place, base=TINY)
    folder = folder_of(place, first)
    weights = (folder / "student.safetensors").read_bytes()
    (folder / "result.json").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    again = run(place, base=TINY)
    assert "last.ckpt cannot be read" in capsys.readouterr().err
    assert again.primary == first.primary and (folder / "student.safetensors").read_bytes() == weights


def test_a_damaged_network_of_the_store_is_named_and_made_again(place, unmeasured, capsys):
    """Out of the checkpoint of its fit, where that is whole."""
    first = run(place, base=TINY)
    store = Path(first.teacher.training.checkpoints)
    whole = (store / "model.safetensors").read_bytes()
    flip(store / "model.safetensors")
    flip(store / "last.ckpt", 3000)
    result = run(place, base=(*TINY, "rerun=true"))
    told = capsys.readouterr().err
    assert "model.safetensors is damaged or gone; it is made again" in told and "last.ckpt cannot be read" in told
    assert result.primary == first.primary and (store / "model.safetensors").read_bytes() == whole


def test_a_rerun_that_was_stopped_goes_on_and_one_that_ended_is_repeated(place, unmeasured, monkeypatch, tmp_path):
    """The folder may be a link, which stays."""
    first = run(place, base=TINY)
    folder = folder_of(place, first)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    (kept := folder / "checkpoints" / "kept").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(testing, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(place, base=(*TINY, "rerun=true"))
    assert not kept.exists() and not (folder / "result.json").exists() and folder.is_symlink()
    kept.write_text("")
    result = run(place, base=(*TINY, "rerun=true"))
    assert kept.exists() and result.student.training.resumed and result.primary == first.primary
    run(place, base=(*TINY, "rerun=true"))
    assert not kept.exists() and not (folder / ".rerun").exists()


def test_no_room_for_the_leaderboard_harms_no_result(place, unmeasured, monkeypatch, capsys):
    """The disk is full once the result is written: a line says so, and the command ends well."""
    first = run(place, base=TINY)
    (folder_of(place, first) / "result.json").unlink()

    def full(runs):
        with monkeypatch.context() as patch:
            patch.setattr(
                files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
            )
            leaderboard.refresh(runs)

    monkeypatch.setattr(experiment, "refresh", full)
    assert run(place, base=TINY).primary == first.primary
    said = capsys.readouterr().err
    assert "the result is written, the leaderboard is not: cannot write to" in said and "No space left" in said
    assert (folder_of(place, first) / "result.json").is_file() and not list((place / "runs").glob(".*.tmp"))


def test_a_full_disk_is_one_line_and_with_room_again_the_run_goes_on(tmp_path, place, unmeasured, monkeypatch, capsys):
    """One file after another finds no room; without any for the teacher's outputs the training goes on."""
    first, replace, lacking = run(place, base=TINY), os.replace, ["*.shard"]

    def full(source, target):
        if any(Path(target).match(name) for name in lacking):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    for name in ("best.ckpt", "model.safetensors", "student.safetensors", "result.json"):
        lacking.append(name)
        with pytest.raises(
            UserError, match=r"^cannot write to [^\n]* \(No space left on device\); choose another place: paths"
        ):
            run(tmp_path, base=TINY)
        assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob("runs/*/*/result.json"))
        lacking.remove(name)
    assert run(tmp_path, base=TINY).primary == first.primary
    weights = [folder_of(where, first) / "student.safetensors" for where in (place, tmp_path)]
    assert weights[0].read_bytes() == weights[1].read_bytes() and not list(tmp_path.rglob("*.shard"))
    assert "the teacher cache takes up nothing more" in capsys.readouterr().err


def test_a_run_that_is_refused_once_the_data_are_read_leaves_nothing(tmp_path, unmeasured):
    with pytest.raises(UserError, match="a batch of 100000 cannot be filled"):
        run(tmp_path, "recipe.batch_size=100000", base=TINY)
    assert not (tmp_path / "runs").exists()


def test_a_kill_while_a_folder_is_emptied_is_made_up_for(place, unmeasured):
    first = run(place, base=TINY)
    folder = folder_of(place, first)
    (folder / ".rerun").write_text("emptying")
    (folder / "result.json").unlink()
    assert not run(place, base=TINY).student.training.resumed, "half of a run's files are no run"


def test_a_run_that_was_killed_before_its_figures_were_logged_is_not_finished(place, unmeasured, monkeypatch):
    words = (*(word for word in TINY if word != "logger=none"), "logger=csv", "name=logged")
    with monkeypatch.context() as patch:
        patch.setattr(experiment.loggers, "log_summary", killed)
        with pytest.raises(OSError, match="killed"):
            run(place, base=words)
    logged = []
    monkeypatch.setattr(experiment.loggers, "log_summary", lambda _, result, *__: logged.append(result))
    result = run(place, base=words)
    assert logged == [result]
    (folder_of(place, result) / "README.md").unlink()
    run(place, base=words)
    assert len(logged) == 1 and (folder_of(place, result) / "README.md").is_file(), "shown again, and completed"
