"""Two processes with parts of a batch learn what one with the whole batch does: every strategy, and every term that
compares samples. One pair of processes, which talk over gloo, serves all checks."""

import pytest
import torch
from helpers.two_networks import EQUAL, ROWWISE, UNEQUAL, models
from helpers.two_processes import COMPARING, SHARDED, accumulated, end_to_end, fitted, input_gradients, work
from test_module import STRATEGIES
from torch import multiprocessing

from distillab.core import distributed
from distillab.core.distributed import share
from distillab.core.errors import UserError


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of the two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    # A fork of this process could not differentiate once this one has; a server that has the imports can be forked.
    multiprocessing.set_forkserver_preload(["distillab.training.module"])
    multiprocessing.start_processes(work, (folder,), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def of_both(ranks, *keys):
    """One entry of what each process found, if there was no error."""
    for key in keys:
        ranks = [found[key] for found in ranks]
    for value in ranks:
        assert not isinstance(value, str), value
    return ranks


def assert_close(value, expected, what, **tolerances):
    tolerances = tolerances or {"rtol": 1e-6, "atol": 1e-9}  # what was prepared is in float32
    torch.testing.assert_close(value, expected, **tolerances, msg=lambda text: f"{what}: {text}")


def check(both, whole, loss_of):
    """Each phase: the loss, as `loss_of` the two processes', and in each of them all gradients and buffers."""
    for phases in zip(*both, whole, strict=True):
        *found, expected = phases
        assert any(gradient.any() for gradient in expected["gradients"].values())
        for key, value in expected["losses"].items():
            assert_close(loss_of([one["losses"][key] for one in found]), value, key)
        for one in found:
            for kind in ("gradients", "buffers"):
                assert one[kind].keys() == expected[kind].keys()
                for key, value in expected[kind].items():
                    assert_close(one[kind][key], value, key)


def test_the_strategies_that_compare_samples_are_found():
    assert {"sp", "cc", "pkt", "rkd", "crd", "dist", "mlkd", "luminet", "semckd"} <= set(COMPARING)
    assert COMPARING["mlkd"] and "kd" not in COMPARING and len(STRATEGIES) > 30


@pytest.mark.parametrize("name", STRATEGIES)
def test_equal_parts_of_a_batch_give_the_gradient_of_the_whole(name, ranks):
    """Loss and gradient of a strategy are means over the processes."""
    check(of_both(ranks, name, "equal"), end_to_end(name, EQUAL), lambda losses: sum(losses) / 2)


@pytest.mark.parametrize("name", COMPARING)
def test_unequal_parts_give_it_where_samples_are_compared(name, ranks):
    """Each process has the loss of the whole batch."""
    both, whole = of_both(ranks, name, "unequal"), end_to_end(name, UNEQUAL, among=COMPARING[name])
    for rank in (0, 1):
        check(both, whole, lambda losses, rank=rank: losses[rank])


@pytest.mark.parametrize("name", ROWWISE)
def test_unequal_parts_give_it_where_rows_are_averaged(name, ranks):
    """Every row of the whole batch weighs the same; loss and gradient are means over the processes."""
    both, whole = of_both(ranks, name, "rows"), end_to_end(name, UNEQUAL, among=ROWWISE[name])
    check(both, whole, lambda losses: sum(losses) / 2)


def test_unequal_parts_of_unequal_batches_make_one_step(ranks, tmp_path):
    """64 samples in three batches on two processes, 12, 12 and 7 beside 13, 13 and 7, and at once on one."""
    (expected,) = accumulated(tmp_path, 64, 1)
    for (found,) in of_both(ranks, "accumulated"):
        for key, gradient in expected.items():
            assert_close(found[key], gradient, key, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COMPARING)
def test_unequal_parts_give_the_gradient_of_what_a_term_reads(name, ranks):
    both = of_both(ranks, name, "inputs")
    for key, (loss, gradients) in input_gradients(name).items():
        assert any(gradient.any() for gradient in gradients)
        for one in both:
            assert_close(one[key][0], loss, key)
        for i, gradient in enumerate(gradients):
            assert_close(torch.cat([one[key][1][i] for one in both]) / 2, gradient, key)


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
    with pytest.raises(UserError, match=rf"does not divide among {devices} devices; recipe\.batch_size={nearest} does"):
        share(batch, devices, "resnet8")


def test_what_happens_to_one_process_alone_is_said_by_it(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "rank", 1)
    distributed.rank_zero_warn("all of them see this")
    distributed.rank_zero_warn("the disk of this one is full", own=True)
    assert capsys.readouterr().err == "warning (process 1): the disk of this one is full\n"
    monkeypatch.setattr(distributed, "rank", 0)
    distributed.rank_zero_warn("the disk of this one is full", own=True)
    assert capsys.readouterr().err == "warning: the disk of this one is full\n"


def test_the_share_of_each_device_is_said(capsys):
    share(64, 2, "resnet8")
    assert capsys.readouterr().out == "  resnet8  batch 64 = 32 per device on 2 devices\n"
    share(63, 1, "resnet8")
    assert capsys.readouterr().out == ""
