"""Two hundred mutated files: each is read, or refused in one line; no code in it runs, and no memory is blown."""

import io
import json
import os
import random
import resource

import numpy as np
import pytest
import torch
import yaml
from helpers.made_results import made
from PIL import Image
from safetensors.torch import save_file

from distillab.commands import cli
from distillab.commands.composition import compose, conf_dir
from distillab.commands.error_line import one_line
from distillab.commands.invocation import parse
from distillab.commands.own_files import check_own_files
from distillab.core.errors import UserError
from distillab.core.result_reader import read
from distillab.data.images.decode import read_image
from distillab.models.checkpoint import read_weights
from distillab.models.zoo.cifar_resnet import CifarResNet

EACH = 50
MEMORY = 500 * 1024  # KiB that all files of a kind may add


class Command:
    """What a pickle runs where it is loaded without care."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def mutated(content: bytes, seed: int) -> bytes:
    """The bytes with bits flipped, a part cut out, doubled, filled or moved, or the end lost."""
    draw, changed = random.Random(seed), bytearray(content)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(max(len(changed), 1))
        part = slice(start, start + draw.choice((1, 4, 16, 256, len(changed) // 3)))
        match draw.randrange(6):
            case 0:
                changed[part] = bytes(value ^ 1 << draw.randrange(8) for value in changed[part])
            case 1:
                del changed[part]
            case 2:
                changed[start:start] = changed[part]
            case 3:
                changed[part] = b"\xff" * len(changed[part])
            case 4:
                changed[part] = draw.randbytes(len(changed[part]))
            case 5 if draw.random() < 0.3:
                del changed[start:]
    return bytes(changed)


def checkpoints(folder):
    state = CifarResNet(8, num_classes=10, in_channels=1).state_dict()
    buffers = [io.BytesIO() for _ in range(4)]
    torch.save({"state_dict": state, "optimizer": Command()}, buffers[0])
    torch.save({"net": state, "best": Command()}, buffers[1], _use_new_zipfile_serialization=False)
    np.savez_compressed(buffers[2], **{name: value.numpy() for name, value in state.items()})
    torch.save(Command(), buffers[3])
    save_file(state, folder / "whole.safetensors")
    return [*(buffer.getvalue() for buffer in buffers), (folder / "whole.safetensors").read_bytes()], ".pt"


def images(folder):
    noise = np.random.RandomState(0).randint(0, 255, (24, 32, 3), np.uint8)
    buffers = {kind: io.BytesIO() for kind in ("png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm")}
    for kind, buffer in buffers.items():
        Image.fromarray(noise).save(buffer, kind)
    return [buffer.getvalue() for buffer in buffers.values()], ".png"


def results(folder):
    return [json.dumps(made().as_json()).encode()], ".json"


def configs(folder):
    shipped = (conf_dir() / "strategy" / f"{name}.yaml" for name in ("kd", "hint", "crd", "hint_two_phase"))
    return [path.read_bytes() for path in shipped], ".yaml"


def take_checkpoint(path):
    read_weights(path)


def take_image(path):
    read_image(str(path), 3)


def take_result(path):
    result, complaint = read(path)
    if result is None:
        raise UserError(complaint)


def take_config(path):
    check_own_files(path.parents[1])
    parse(yaml.safe_load(yaml.safe_dump(container(compose([f"strategy={path.stem}", "logger=none"], path.parents[1])))))


def container(config):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


KINDS = {checkpoints: take_checkpoint, images: take_image, results: take_result, configs: take_config}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_read_or_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "WANTS_TRACEBACK", False)
    whole, suffix = kind(tmp_path)
    refused, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(EACH):
        path = tmp_path / f"{seed}" / "strategy" / f"mine_{seed}{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(mutated(whole[seed % len(whole)], seed))
        try:
            KINDS[kind](path)
        except Exception as error:
            refused += 1
            line = one_line(error)
            assert line and "\n" not in line and len(line) < 1000, (seed, line)
            assert "shows where" not in line, (seed, line)  # an error that nobody expected
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{kind.__name__}: {refused} of {EACH} refused, {grown // 1024} MiB more")
    assert refused > EACH // 5 and grown < MEMORY and not (tmp_path / "ran").exists()
