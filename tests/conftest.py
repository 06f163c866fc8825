"""Small real data, networks, fits and processes that several tests share; what is slow to import, where it is used."""

import os
import sys

# Processes that tests start import torch and Lightning: ten seconds from compiled files, thirty from sources.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from distillab.data.images.sources import Digits


def pytest_configure(config):
    """One thread for each of the two test processes, and for what they start."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_generate_tests(metafunc):
    if parametrize := getattr(metafunc.cls, "parametrize", None):  # a MethodTester
        parametrize(metafunc)


def small_digits(folder, samples):
    augment = {"crop": 1, "strong": {"operations": 2, "magnitude": 5, "cutout": 0.25}}
    data = Digits("digits", folder, samples=samples, augment=augment)
    data.prepare()
    return data


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return small_digits(tmp_path_factory.mktemp("store"), 256)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """Two steps of 64 to an epoch."""
    return small_digits(tmp_path_factory.mktemp("store"), 128)


@pytest.fixture
def network():
    from helpers.fits import small

    return small


@pytest.fixture
def unmeasured():
    """Whole runs without timings, tables and plots."""
    from helpers import small_run

    with small_run.unmeasured():
        yield


@pytest.fixture(scope="class")
def unbroken(config, few_digits):
    """A fit of three epochs of a strategy, which several tests look at."""
    from helpers.fits import distillation, watched_fit

    data = lambda module: few_digits.configure(64, 0, module.strategy.num_views)  # noqa: E731
    return watched_fit(lambda teacher: distillation(config, teacher=teacher), data, 3)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """What each of two processes finds that talk over gloo: one pair for all tests, asked when a test needs it."""
    from helpers.two_processes import Pair, Rank

    pair = Pair(tmp_path_factory.mktemp("ranks"))
    yield [Rank(pair, 0), Rank(pair, 1)]
    pair.end()


@pytest.fixture
def plain_loader(digits):
    batches = list(digits.configure(64, 0).train_dataloader())
    images = torch.cat([batch.pixels[0] for batch in batches]).float() / 255
    return DataLoader(TensorDataset(images, torch.cat([batch.labels for batch in batches])), batch_size=64)
