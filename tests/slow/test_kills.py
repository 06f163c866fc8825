"""SIGKILL at fifty moments, at the files of a run and at random ones: the same command ends in the unbroken run's weights."""

import random
import signal

import pytest
from helpers import forked
from helpers.killed import WORDS, Left, goes_on, stopped_at, unbroken

FILES = ("best.ckpt", "last.ckpt", "model.safetensors", "test.npz", "key.json", "record.json", "*.shard", "config.yaml")
FILES += ("student.safetensors", "predictions.npz", "README.md", "result.json")
WRITES = [(name, when, 1) for name in FILES for when in ("half", "after")]
# Those of the student's fit, of the teacher's second epoch, and of the second view.
WRITES += [("last.ckpt", when, count) for count in (2, 3, 5) for when in ("half", "before")]
WRITES += [("best.ckpt", "before", 3), ("*.shard", "half", 2), ("*.shard", "before", 3), ("*.shard", "after", 3)]
MOMENTS = [random.Random(seed).random() for seed in range(50 - len(WRITES))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return unbroken(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "when", "count"), WRITES)
def test_a_kill_at_a_file_is_made_up_for(name, when, count, tmp_path, whole):
    code = forked.ended(tmp_path, WORDS, forked.Unmeasured(), forked.KillAtWrite(name, when, count))
    assert code == -signal.SIGKILL, forked.said(tmp_path)
    goes_on(tmp_path)
    Left.of(tmp_path).assert_is(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_a_random_moment_is_made_up_for(moment, tmp_path, whole):
    folder, code, _ = stopped_at(tmp_path, moment, whole[1], signal.SIGKILL)
    assert code == -signal.SIGKILL, forked.said(folder)
    goes_on(folder)
    Left.of(folder).assert_is(whole[0])
