"""A frozen teacher of which each device holds a part of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn

from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.model import Model
from distillab.teachers.frozen import FrozenTeacher

NOBODY = (
    "teacher.shard=true has nothing to share the teacher among: trainer=ddp trainer.devices=2 starts two processes, "
    "teacher.shard=false needs one"
)
LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LARGE = 1 / 8  # of all weights: what is larger is gathered in pieces, if it has any


class ShardedTeacher(FrozenTeacher):
    """One fixed teacher, during a fit shared out among all processes by torch's `fully_shard` (arXiv 2304.11277).

    Between `setup` and `teardown` each device holds its part of every weight and gathers one block of the network
    at a time; buffers, and the layers that terms read themselves, are whole on each. The network it was made from stays
    in the host's memory meanwhile, whole and untouched, and outside the module tree, so that DDP, checkpoints and moves
    between devices pass it by. Every process must ask it equally often. Tested on two CPU processes (gloo); it was
    never run on several GPUs.

    Args:
        model: the teacher, with its weights.
    """

    def setup(self, device: torch.device) -> bool:
        """Give this process its part of the weights, on `device`, before anything asks it.

        Raises:
            UserError: there is no other process.
        """
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            raise UserError(NOBODY)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # a second to import, which no other run needs

        self._whole = [self._modules.pop("model").cpu()]  # in a list it is no part of the module tree
        self.extractor.remove()
        shares = _alias(self._whole[0])
        self.extractor = FeatureExtractor(shares, self.extractor.needs)
        kept = {p for layer in _read_by_terms(shares, self.extractor) for p in layer.to(device).parameters()}
        kept |= {_moved(p, device) for p in shares.parameters() if p.ndim == 0}  # numbers cannot be divided
        how = {
            "mesh": init_device_mesh(device.type, (distributed.get_world_size(),)),
            "reshard_after_forward": True,
            "ignored_params": kept,
        }
        large = LARGE * sum(p.numel() for p in shares.parameters())
        for block in dict.fromkeys(_blocks(shares.net, large)):
            if any(p not in kept for p in block.parameters()):
                fully_shard(block, **how)
        fully_shard(shares, **how)
        vars(self)["model"] = shares  # likewise
        return True

    def teardown(self) -> None:
        """Drop this process's part and take the whole network up again; nothing where it is whole."""
        if "model" in self._modules:
            return
        del vars(self)["model"]
        self.extractor.remove()
        self.model = self._whole.pop()
        self.request(self.extractor.needs)


def check_shard(config: RunConfig, processes: int) -> bool:
    """`teacher.shard`, if the run can have it.

    Args:
        config: the whole config; `teacher.shard`, `cache.mode` and `trainer.compile` are read.
        processes: of the run.

    Raises:
        UserError: it cannot.
    """
    if not config.teacher.shard:
        return False
    if processes == 1:
        raise UserError(NOBODY)
    if config.cache.mode != "never":  # one process would ask the teacher while another reads the cache
        raise UserError(
            "teacher.shard=true runs the teacher in every process at once, without a cache: cache.mode=never"
        )
    if config.trainer.compile == "both":
        raise UserError("teacher.shard=true runs the teacher as it is: trainer.compile=student, or false")
    return True


def _alias(model: Model) -> Model:
    """A second network on the tensors of the first: what is put in a tensor's place there changes nothing here."""
    tensors: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().contiguous(), requires_grad=False) for p in model.parameters()
    }
    return copy.deepcopy(model, tensors | {id(b): b.detach() for b in model.buffers()})


def _read_by_terms(model: Model, extractor: FeatureExtractor) -> list[nn.Module]:
    """The layers whose weights terms read, or ship, without running them."""
    head = [model.net.get_submodule(model.info.head)] if model.info.head is not None else []
    return head + [norm for norm in getattr(extractor, "norms", []) if norm is not None]


def _moved(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    parameter.data = parameter.data.to(device)
    return parameter


def _blocks(module: nn.Module, large: float) -> Iterator[nn.Module]:
    """What the network's lists of layers consist of: its blocks, inner ones first and only where the outer is large.

    Nothing smaller: an attention may read the weights of its own layers without running them.
    """
    listed = isinstance(module, LISTS)
    for child in module.children():
        block = listed and not isinstance(child, LISTS)
        if not block or sum(p.numel() for p in child.parameters()) > large:
            yield from _blocks(child, large)
        if block:
            yield child
