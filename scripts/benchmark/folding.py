"""What a frozen teacher's forward pass costs as it is, with its BatchNorms folded, and compiled."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from page_tables import table

from distillab.commands.composition import model_config
from distillab.core.configuration import ModelConfig
from distillab.models.build import build_model
from distillab.models.folding import folded

TEACHERS = ("resnet56", "wrn_16_2", "resnet32x4")
BATCH, SIDE = 64, 32
WAYS = ("contiguous", "channels last", "folded", "compiled", "folded and compiled")


@torch.no_grad()
def folding(repeats: int = 7, teachers: Sequence[str] = TEACHERS) -> dict[str, dict[str, float]]:
    """Seconds of CPU time on one core for a batch of 64 images of 32×32, by teacher and way: the median of turns.

    All but the first way are in channels_last, as a run is.
    """
    torch.set_num_threads(1)
    images, found = torch.rand(BATCH, 3, SIDE, SIDE), {}
    last = images.contiguous(memory_format=torch.channels_last)
    for name in teachers:
        how = {"mean": [0.5] * 3, "std": [0.25] * 3, "seed": 0}
        config, classes = ModelConfig.of(model_config(name, "teacher"), "teacher"), [str(i) for i in range(100)]
        plain = build_model(config, "teacher", classes, (3, SIDE, SIDE), **how).eval()
        other = copy.deepcopy(plain).to(memory_format=torch.channels_last)
        without = folded(other).to(memory_format=torch.channels_last)
        nets = dict(zip(WAYS, (plain, other, without, torch.compile(other), torch.compile(without)), strict=True))
        taken: dict[str, list[float]] = {way: [] for way in nets}
        for _ in range(repeats + 1):  # the first compiles
            for way, net in nets.items():
                began = time.process_time()
                net(images if way == "contiguous" else last)
                taken[way].append(time.process_time() - began)
        found[name] = {way: statistics.median(seconds[1:]) for way, seconds in taken.items()}
        torch.compiler.reset()
    return found


def folding_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """What `folding` found, in Markdown: seconds, and in brackets how many times faster than channels_last alone."""
    rows = [
        (name, *(f"{ways[way]:.3f} s ({ways['channels last'] / ways[way]:.2f} ×)" for way in WAYS))
        for name, ways in found.items()
    ]
    return table(("teacher", *WAYS), rows) + "\n"
