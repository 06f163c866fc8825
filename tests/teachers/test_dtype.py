"""A teacher held in half precision: what it says comes back in float32, it is another teacher to cache and store, and
who has no frozen teacher refuses it."""

import copy

import pytest
import torch
from helpers.small_run import run
from test_cached import SETTINGS, parts

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.models.fingerprint import weights_hash
from distillab.models.image_model import ImageModel
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers.frozen import FrozenTeacher

SHAPE = (1, 8, 8)


@pytest.fixture
def teacher(network):
    made = ImageModel(network(seed=1), SHAPE, mean=[0.1], std=[0.3], class_order=list(range(9, -1, -1)))

    def held(dtype):
        other = copy.deepcopy(made)
        if dtype:
            other.hold_in(dtype)
        return other.eval()

    return held


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_held_teacher_says_nearly_the_same_in_float32(dtype, teacher):
    images = torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected, held = teacher(None)(images), teacher(dtype)
    given = held(images)
    assert given.dtype == torch.float32 and not torch.equal(given, expected)
    assert (given - expected).abs().max() < (0.05 if dtype == "bfloat16" else 0.005) * expected.abs().max()
    assert {p.dtype for p in held.net.parameters()} == {getattr(torch, dtype)}
    # The normalisation stays exact: it is the data's.
    assert held.mean.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(held(images), given)  # whatever the student learns in


@pytest.mark.parametrize("name", ["kd", "hint", "srrl", "simkd", "ofd"])
def test_terms_read_float32(name, teacher, network):
    """Logits, maps, an embedding with its head, a head that is shipped, BatchNorm's parameters."""
    module = Distillation(network(), teacher("bfloat16"), parts(name), input_shape=SHAPE)
    images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    loss = sum(module.losses(_batch(images), tuple(module.strategy.terms)).values())
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert module.deployed()(pixels=images).dtype == torch.float32


def _batch(images):
    from distillab.data.images.image_batch import ImageBatch

    return ImageBatch.of([images], torch.arange(8), torch.arange(8))


def test_each_dtype_has_a_cache_of_its_own(teacher, digits, tmp_path):
    keys = set()
    for dtype in (None, "float32", "bfloat16", "float16"):
        source, data = FrozenTeacher(teacher(dtype)), digits.configure(64, 0)
        keys.add(with_cache(source, Strategy.of(parts("kd")), data, SETTINGS, tmp_path).cache.key)
    assert len(keys) == 4
    assert weights_hash(teacher("float32")) == weights_hash(teacher(None))


def test_a_run_measures_the_teacher_as_it_teaches(tmp_path):
    plain = run(tmp_path, "strategy=kd", "baseline=false")
    held = run(tmp_path, "strategy=kd", "baseline=false", "teacher.dtype=bfloat16")
    assert held["teacher"]["size_bytes"] < 0.6 * plain["teacher"]["size_bytes"]
    assert len(list((tmp_path / "store" / "networks").glob("resnet14-*"))) == 1  # trained once, in float32
    assert len(list((tmp_path / "store" / "measured").iterdir())) == 1
    assert abs(held["teacher"]["top1"] - plain["teacher"]["top1"]) < 0.05
    assert plain["cache"]["key"] != held["cache"]["key"]


@pytest.mark.parametrize("scheme", ["mutual", "ema", "self", "born_again"])
def test_a_scheme_without_a_frozen_teacher_refuses(scheme, tmp_path):
    with pytest.raises(UserError, match=rf"scheme={scheme} has no frozen teacher .* teacher\.dtype=null") as error:
        run(tmp_path, "strategy=kd", f"scheme={scheme}", "teacher.dtype=float16")
    assert "\n" not in str(error.value)


def test_another_dtype_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"teacher\.dtype must be one of bfloat16, float16, float32 or null, got \"int8\""
    ):
        run(tmp_path, "strategy=kd", "teacher.dtype=int8")
