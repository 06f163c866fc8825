"""Fits of two processes: gathers, the optimisers, a shared cache, a teacher shared out; and the share of each device.

That two processes learn of every strategy what one does: helpers.method_tester."""

import pytest
import torch
from helpers.two_networks import models
from helpers.two_processes import SHARDED, accumulated, assert_close, fitted, of_both, shares

from distillab.core import output
from distillab.core.configuration import TrainerConfig
from distillab.core.distributed import check_shared, share
from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.training.fit import _engine


def test_unequal_parts_of_unequal_batches_make_one_step(ranks, tmp_path):
    """64 samples in three batches on two processes, 12, 12 and 7 beside 13, 13 and 7, and at once on one."""
    (expected,) = accumulated(tmp_path, 64, 1)
    for (found,) in of_both(ranks, "accumulated"):
        for key, gradient in expected.items():
            assert_close(found[key], gradient, key, rtol=1e-4, atol=1e-6)


def test_a_gather_takes_any_rows_and_types(ranks):
    for one in of_both(ranks, "gather"):
        assert torch.equal(one["rows"], torch.ones(2, 3))
        assert one["labels"].tolist() == [0, 0, 1] and one["labels"].dtype == torch.int64
        assert one["flags"].tolist() == [True] * 3


@pytest.mark.parametrize("optimizer", ["sgd", "dot"])
def test_a_fit_of_two_processes_is_a_fit_of_one(optimizer, ranks):
    """Under Lightning's DDP, with gradients accumulated; `dot` reduces the gradient of the task terms by itself."""
    expected = fitted(optimizer)
    start = models()[0].state_dict()
    assert any((expected[key] - start[key]).abs().max() > 1e-3 for key in start)
    for one in of_both(ranks, optimizer):
        for key, value in expected.items():
            assert_close(one[key], value, key, rtol=1e-4, atol=1e-6)


def test_a_term_that_learns_from_steps_learns_the_same_in_both_processes(ranks):
    """From the loss of the whole batch, though each has seen its own part: bit for bit, and as one process does."""
    first, second = of_both(ranks, "shares")
    assert first == second and len(first) == 8
    assert first == pytest.approx(shares(), rel=1e-5)
    assert first[1] > 0.4 + 0.6 * 2 / 8 + 0.05, "ahead of the straight line, which no loss moves"


def test_two_processes_fill_one_cache_and_replay_it(ranks):
    """Each runs the teacher on its own part of the batches alone; cold and warm, both end in the same weights."""
    start = models()[0].state_dict()
    for cold, warm in of_both(ranks, "replayed"):
        assert (cold["read"], cold["computed"]) == (0, 64) and (warm["read"], warm["computed"]) == (64, 0)
        for key, value in of_both(ranks, "replayed")[0][0]["student"].items():
            assert torch.equal(cold["student"][key], value) and torch.equal(warm["student"][key], value), key
            assert not torch.equal(value, start[key]) or not value.is_floating_point()


@pytest.mark.parametrize("name", SHARDED)
def test_a_teacher_shared_out_teaches_what_a_whole_one_does(name, ranks):
    """Each process holds about half of it while it teaches, no checkpoint any of it, and one may ask it alone after."""
    for rank, (shared, plain) in enumerate(of_both(ranks, f"sharded {name}")):
        for one in (shared, plain):
            assert not isinstance(one, str), one
            assert not any(key.startswith("teacher.") for key in one["checkpoint"])
            assert one["whole"]
        assert 0.45 < shared["share"] / plain["share"] < 0.55
        for what in ("losses", "student"):
            assert shared[what].keys() == plain[what].keys()
            for key, value in plain[what].items():
                assert_close(shared[what][key], value, key, rtol=1e-5, atol=1e-6)
        assert_close(shared["deployed"], plain["deployed"], "deployed", rtol=1e-5, atol=1e-6)
        assert ("alone" in shared) == (rank == 0)


@pytest.mark.parametrize(("batch", "devices", "nearest"), [(63, 2, 64), (64, 3, 63), (1, 4, 4), (10, 4, 8)])
def test_a_batch_that_does_not_divide_is_refused(batch, devices, nearest):
    for key in ("recipe.batch_size", "teacher.recipe.batch_size"):
        with pytest.raises(UserError) as refused:
            check_shared(batch, devices, key)
        assert str(refused.value) == f"{key}={batch} does not divide among {devices} devices; {key}={nearest} does"


def test_what_happens_to_one_process_alone_is_said_by_it(monkeypatch, capsys):
    monkeypatch.setattr(output, "rank", 1)
    output.rank_zero_warn("all of them see this")
    output.rank_zero_warn("the disk of this one is full", own=True)
    assert capsys.readouterr().err == "warning (process 1): the disk of this one is full\n"
    monkeypatch.setattr(output, "rank", 0)
    output.rank_zero_warn("the disk of this one is full", own=True)
    assert capsys.readouterr().err == "warning: the disk of this one is full\n"


def test_the_share_of_each_device_is_said(capsys):
    share(64, 2, "resnet8")
    assert capsys.readouterr().out == "  resnet8  batch 64 = 32 per device on 2 devices\n"
    share(63, 1, "resnet8")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("task", ["0", "2"])
def test_one_process_is_one_process_also_in_a_slurm_allocation_of_several_tasks(task, tmp_path, monkeypatch):
    """Lightning took the allocation's four tasks for its own and refused, or waited for the others."""
    names = {"NTASKS": "4", "PROCID": task, "LOCALID": task, "NODEID": "0", "JOB_ID": "1234567", "NNODES": "1"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    engine = _engine(Recipe(), TrainerConfig(accelerator="cpu"), tmp_path, callbacks=[], logger=False)
    assert (engine.world_size, engine.global_rank) == (1, 0) and engine.is_global_zero
