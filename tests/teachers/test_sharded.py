"""When a teacher can be sharded, in which pieces, and how one that no device holds alone is evaluated; that it teaches as
a whole one does is in test_distributed.py."""

from types import SimpleNamespace

import pytest
import torch
from helpers.small_run import run
from torch import nn

from distillab.core.configuration import CacheConfig, ModelConfig, TrainerConfig
from distillab.core.errors import UserError
from distillab.core.run_identity import config_hash
from distillab.models.image_model import ImageModel
from distillab.schemes import measure as measured
from distillab.tasks.image_classification import ImageClassification
from distillab.teachers.sharded import ShardedTeacher, _blocks, check_shard


def settings(shard=True, cache="never", compiled=False):
    return {"teacher": {"shard": shard}, "cache": {"mode": cache}, "trainer": {"compile": compiled}}


def config(**changed):
    given = settings(**changed)
    return SimpleNamespace(
        teacher=ModelConfig.of(given["teacher"], "teacher"),
        cache=CacheConfig.of(given["cache"]),
        trainer=TrainerConfig.of(given["trainer"]),
    )


@pytest.mark.parametrize(
    ("changed", "processes", "words"),
    [
        ({}, 1, r"nothing to share the teacher among: trainer=ddp trainer\.devices=2"),
        ({"cache": "auto"}, 2, r"cache\.mode=never"),
        ({"compiled": "both"}, 2, r"trainer\.compile=student"),
        ({"shard": "stages"}, 2, r'teacher\.shard must be one of true, false or null, got "stages"'),
    ],
)
def test_what_it_does_not_go_with_is_one_line(changed, processes, words):
    with pytest.raises(UserError, match=words) as error:
        check_shard(config(**changed), processes)
    assert "\n" not in str(error.value)


def test_what_it_goes_with():
    assert check_shard(config(compiled="student"), 2) is True
    assert check_shard(config(shard=False, cache="auto"), 1) is False
    assert not ModelConfig.of({}, "teacher").shard  # a config of before


def test_one_process_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match=r"trainer=ddp trainer\.devices=2"):
        run(tmp_path, "strategy=kd", "teacher.shard=true", "cache.mode=never")
    assert not (tmp_path / "store" / "networks").exists()


@pytest.mark.parametrize("scheme", ["mutual", "ema", "self", "born_again", "assistant", "ensemble"])
def test_a_scheme_without_one_frozen_teacher_refuses(scheme, tmp_path):
    with pytest.raises(
        UserError, match=rf"scheme={scheme} has no single frozen teacher .* teacher\.shard=false"
    ) as error:
        run(tmp_path, "strategy=kd", f"scheme={scheme}", "teacher.shard=true")
    assert "\n" not in str(error.value)


def test_it_is_where_and_not_what():
    assert config_hash(settings()) == config_hash(settings(shard=False)) == config_hash(settings() | {"teacher": {}})


def test_blocks_are_shared_out_whole_and_large_ones_in_pieces_first():
    small = [nn.ModuleDict({"a": nn.Linear(2, 2)}), *(nn.Sequential(nn.Linear(2, 2)) for _ in range(3))]

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.attention = nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    blocks = [Block(2), Block(20)]
    net = nn.Sequential(nn.Linear(3, 2), nn.Sequential(*blocks), *small)
    inner = list(blocks[1].mlp)
    linears = [module for one in small for module in one.children()]
    assert list(_blocks(net, 100)) == [net[0], blocks[0], *inner, blocks[1], *linears]


def test_a_network_that_the_device_cannot_hold_is_evaluated_by_the_host(network, digits, capsys):
    model, asked = ImageModel(network(), (1, 8, 8)), []

    class Full(ImageClassification):
        def predictions(self, model, data, split, device):
            asked.append(device)
            if device == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().predictions(model, data, split, device)

    class OnGPU:
        device, task = "cuda", Full()

    logits, labels = measured.predictions(model, digits, OnGPU())
    assert asked == ["cuda", "cpu"] and len(logits) == len(labels) == digits.sizes["test"]
    assert "evaluated on the CPU" in capsys.readouterr().out


def test_made_whole_twice_is_whole(network):
    teacher = ShardedTeacher(ImageModel(network(), (1, 8, 8)))
    whole = teacher.model
    teacher.teardown()
    assert teacher.model is whole
