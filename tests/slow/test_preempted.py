"""A cluster takes the machine back (SIGTERM) at ten moments; two sweeps of the same cells at once, twenty times."""

import json
import random
import signal

import pytest
from helpers import forked
from helpers.killed import Left, goes_on, stopped_at, unbroken, wait_for

GRACE = 30  # seconds: Slurm's KillWait and Kubernetes' grace period, unless set
ENDED = (
    128 + signal.SIGTERM,
    -signal.SIGTERM,
)  # the latter, which a shell shows as the former, before the command has begun
MOMENTS = [random.Random(f"SIGTERM {seed}").random() for seed in range(10)]
SWEEP = [
    "-m",
    "strategy=kd,dkd",
    "student=resnet8",
    "teacher=resnet8",
    "logger=none",
    "baseline=false",
    "data.samples=64",
]
SWEEP += ["recipe.epochs=2", "teacher.recipe.epochs=1", "recipe.batch_size=32", "teacher.recipe.batch_size=32"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return unbroken(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_whose_machine_is_taken_back_ends_in_time_and_goes_on(moment, tmp_path, whole):
    folder, code, seconds = stopped_at(tmp_path, moment, whole[1], signal.SIGTERM)
    assert code in ENDED and seconds < GRACE, forked.said(folder)
    assert not list(folder.glob("runs/digits/*/result.json"))
    goes_on(folder)
    Left.of(folder).assert_is(whole[0])


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The figures of the two cells, by strategy, of a sweep that was alone."""
    folder = tmp_path_factory.mktemp("alone")
    assert forked.ended(folder, SWEEP, forked.Unmeasured()) == 0, forked.said(folder)
    return figures(folder)


def figures(folder):
    results = [json.loads(path.read_text()) for path in folder.glob("runs/digits/*/result.json")]
    return sorted((result["strategy"], result["primary"]["value"]) for result in results)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_two_sweeps_at_once_train_each_cell_once_and_outlive_each_other(number, tmp_path, cells):
    """In every other round one of the two is killed, and leaves its locks."""
    first, second = (forked.start(tmp_path, SWEEP, forked.Unmeasured()) for _ in range(2))
    if killed := number % 2:
        wait_for(first, 5 * random.Random(number).random())
        first.kill()
    for process in (first, second):
        process.join(300)
    said = forked.said(tmp_path)
    assert second.exitcode == 0 and (killed or first.exitcode == 0), said
    assert figures(tmp_path) == cells and len(cells) == 2
    for epoch in ("teacher resnet8  epoch 1/1", "resnet8 kd  epoch 1/2", "resnet8 dkd  epoch 2/2"):
        assert said.count(epoch) in ((1, 2) if killed else (1,)), said
    for word in ("damaged", "cannot be read", "Traceback"):
        assert word not in said
