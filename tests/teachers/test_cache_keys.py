"""What a cache's key knows, and which settings of the cache are refused."""

from types import SimpleNamespace

import pytest
import torch
from helpers.cache_settings import SETTINGS, settings, typed
from helpers.data_checks import digits as other_digits
from helpers.fits import strategy

from distillab.core.errors import UserError
from distillab.models.fingerprint import structure
from distillab.models.image_model import ImageModel
from distillab.schemes import cache as chosen
from distillab.schemes.cache import cache_layout, with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers import cache
from distillab.teachers.frozen import FrozenTeacher


@pytest.fixture
def keys(network, digits, tmp_path):
    """Of the weak and of the strong view."""

    teachers = {}

    def teacher(seed, about):
        if (which := str((seed, about))) not in teachers:
            teachers[which] = FrozenTeacher(ImageModel(network(seed=seed, depth=14), (1, 8, 8), **about))
        return teachers[which]

    def make(config=SETTINGS, seed=0, teacher_seed=1, data=digits, name="kd", **about):
        parts = Strategy.of(strategy(name))
        ready = data.configure(64, seed, parts.num_views)
        return with_cache(teacher(teacher_seed, about), parts, ready, typed(config, tmp_path)).cache.keys

    return make


def test_every_part_of_the_key_counts(keys, tmp_path, monkeypatch):
    def key(**changes):
        return keys(**changes)[0]

    def trainer(**changes):
        return key(config=SETTINGS | {"trainer": SETTINGS["trainer"] | changes})

    def data(**changes):
        return key(data=other_digits(tmp_path, **{"samples": 256, **changes}))

    def patched(target, name, value, accelerator="cpu"):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            return trainer(accelerator=accelerator)

    def found(device):
        accelerator = SimpleNamespace(current_accelerator=lambda check_available: device)
        return chosen, "torch", SimpleNamespace(accelerator=accelerator)

    gpu = torch.device("cuda", 0)
    first = key()
    others = [
        key(teacher_seed=2),
        key(mean=[0.1], std=[0.3]),
        key(mean=[0.2], std=[0.3]),
        key(input_size=16),
        key(class_order=list(range(9, -1, -1))),
        key(stages=["layer1", "layer3"]),
        key(config=settings(dtype="float32")),
        key(config=settings(top_k=3)),
        key(config=SETTINGS | {"recipe": SETTINGS["recipe"] | {"precision": "bf16-mixed"}}),
        trainer(channels_last=True),
        trainer(compile="both"),
        patched(cache, "CACHE_VERSION", 0),
        patched(*found(gpu), "auto"),
        data(view_seed=1),
        data(samples=200),
        data(augment={"crop": 0}),
        data(augment={"crop": 1, "mixup": 0.2}),
        data(augment={"crop": 1, "cutmix": 0.2}),
        data(split_seed=1),
        data(views=8),
    ]
    assert len({first, *others}) == len(others) + 1
    on_cpu = [patched(*found(None), "auto"), patched(*found(gpu), "cpu")]
    assert {key(seed=5), data(), trainer(compile="student"), *on_cpu} == {first}


def test_what_a_network_does_with_its_weights_counts(network):
    def of(slope):
        net = network(seed=1, depth=14)
        net.layer1.add_module("rest", torch.nn.LeakyReLU(slope))
        return structure(ImageModel(net, (1, 8, 8)))

    assert of(0.01) == of(0.01) != of(0.5)


def test_the_strong_views_numbers_count_for_it_alone(keys, tmp_path):
    strong = {"operations": 2, "magnitude": 5, "cutout": 0.25}
    one, same, other = (
        keys(name="crld", data=other_digits(tmp_path, samples=256, augment={"crop": 1, "strong": numbers}))
        for numbers in (strong, strong, strong | {"magnitude": 6})
    )
    assert one == same and one[1] not in (one[0], other[1])
    assert one[0] == other[0] == keys()[0]


def layout(config):
    """Of ten classes."""
    return cache_layout(
        typed(config, "store"), SimpleNamespace(outputs=10, positions=None), Strategy.of(strategy("kd"))
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "always"},
        {"dtype": "int8"},
        {"top_k": 10},
        {"top_k": 2.5},
        {"limit_gb": "8"},
        {"limit_gb": True},
        {"limit_gb": -1},
        {"limit_gb": float("nan")},
    ],
)
def test_a_wrong_setting_is_one_line(wrong, keys):
    for refuses in (layout, keys):
        with pytest.raises(UserError, match=rf"^cache\.{next(iter(wrong))} must [^\n]*$"):
            refuses(settings(**wrong))


def test_settings_that_are_allowed():
    for right in ({}, {"mode": "never"}, {"dtype": "float32", "top_k": 9}, {"limit_gb": None}, {"limit_gb": 0.5}):
        layout(settings(**right))
