"""A run that is killed five times, at the files that others read, and goes on each time to the unbroken run's weights."""

import signal

from helpers import forked
from helpers.killed import WORDS, Left, goes_on

KILLS = [
    ("best.ckpt", "half"),
    ("record.json", "before"),
    ("*.shard", "half"),
    ("last.ckpt", "after"),
    ("result.json", "half"),
]

SHORT = [word for word in WORDS if "epochs" not in word] + ["recipe.epochs=2", "teacher.recipe.epochs=1"]


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_weights(tmp_path):
    whole = forked.start(tmp_path / "whole", SHORT, forked.Unmeasured())
    folder = tmp_path / "broken"
    for name, when in KILLS:
        code = forked.ended(folder, SHORT, forked.Unmeasured(), forked.KillAtWrite(name, when))
        assert code == -signal.SIGKILL, (name, forked.said(folder))
        assert not list(folder.glob("runs/digits/*/result.json"))
    goes_on(folder, SHORT)
    whole.join(300)
    Left.of(folder).assert_is(Left.of(tmp_path / "whole"))
    assert forked.said(folder).count("resnet8 kd  epoch 2/2") == 1, "what was finished is not made again"
