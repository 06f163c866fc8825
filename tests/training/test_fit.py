"""From which checkpoint a fit goes on when files are damaged."""

import pytest
import torch

from distillab.training.fit import _start

DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: b"\x80\x02noise" * 100,
    "a flipped bit": lambda content: content.replace(b"\x80?", b"\x81?", 1),
    "another file": lambda content: b"PK\x05\x06" + bytes(18),
}


@pytest.fixture
def saved(tmp_path):
    about = {"loops": {}, "epoch": 1, "callbacks": {"best": {"best_model_score": torch.tensor(1.0)}}}
    for name in ("last", "best"):
        torch.save({"state_dict": {"a": torch.arange(500.0)}, **about}, tmp_path / f"{name}.ckpt")
    return tmp_path / "last.ckpt", tmp_path / "best.ckpt"


def damage(path, how):
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_last_checkpoint_is_named_and_the_best_one_goes_on(saved, how, capsys):
    last, best = saved
    assert _start(last.parent, "best", "net") == last and not capsys.readouterr().err
    damage(last, how)
    assert _start(last.parent, "best", "net") == best
    told = capsys.readouterr().err
    assert f"{last} cannot be read" in told and f"goes on from {best}" in told and told.count("\n") == 1
    damage(best, how)
    assert _start(last.parent, "best", "net") is None and "starts over" in capsys.readouterr().err


def test_without_the_best_checkpoint_none_can_be_chosen(saved, capsys):
    """Where the last epoch is taken, the best one is not missed."""
    last, best = saved
    damage(best, "cut")
    assert _start(last.parent, "best", "net") is None and _start(last.parent, "last", "net") == last
    best.unlink()
    assert _start(last.parent, "best", "net") is None and str(best) in capsys.readouterr().err
    last.unlink()
    assert _start(last.parent, "best", "net") is None and not capsys.readouterr().err
