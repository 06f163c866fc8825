"""A frozen teacher whose weights are divided among the devices."""

import copy
from collections.abc import Iterator

import torch
from torch import distributed, nn

from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.model import Model
from distillab.teachers.frozen import FrozenTeacher

ONE_PROCESS = (
    "teacher.shard=true has nothing to share the teacher among: trainer=ddp trainer.devices=2 starts two processes, "
    "teacher.shard=false needs one"
)
LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LARGE = 1 / 8  # share of all weights: a larger block is gathered in pieces


class ShardedTeacher(FrozenTeacher):
    """One fixed teacher, divided among all processes during a fit by torch's `fully_shard` (arXiv 2304.11277).

    Between `setup` and `teardown` each device holds its part of every weight and gathers one block of the network at a
    time; buffers, and the layers that terms read themselves, are whole on each. The original network stays whole in
    the host's memory, outside the module tree, so that DDP, checkpoints and moves between devices ignore it. All
    processes must call it equally often. Tested on two CPU processes (gloo); it was never run on several GPUs.
    """

    folds = False

    def setup(self, device: torch.device) -> bool:
        """Move this process's part of the weights to `device`; raises UserError if there is no other process."""
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            raise UserError(ONE_PROCESS)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # a second to import, which no other run needs

        self._whole = [self._modules.pop("model").cpu()]  # in a list it is no part of the module tree
        self.extractor.remove()
        shares = _alias(self._whole[0])
        self.extractor = FeatureExtractor(shares, self.extractor.needs)
        kept = {p for layer in _read_by_terms(shares, self.extractor) for p in layer.to(device).parameters()}
        for scalar in (p for p in shares.parameters() if p.ndim == 0):  # it cannot be divided
            scalar.data = scalar.data.to(device)
            kept.add(scalar)
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        options = {"mesh": mesh, "reshard_after_forward": True, "ignored_params": kept}
        large = LARGE * sum(p.numel() for p in shares.parameters())
        for block in dict.fromkeys(_blocks(shares.net, large)):
            if any(p not in kept for p in block.parameters()):
                fully_shard(block, **options)
        fully_shard(shares, **options)
        vars(self)["model"] = shares  # not setattr: it is no part of the module tree either
        return True

    def teardown(self) -> None:
        """Drop this process's part and restore the whole network, unless it is whole already."""
        if "model" in self._modules:
            return
        del vars(self)["model"]
        self.extractor.remove()
        self.model = self._whole.pop()
        self.request(self.extractor.needs)


def check_shard(config: RunConfig, processes: int) -> bool:
    """`teacher.shard`; raises UserError if cache, compilation or the number of processes excludes it."""
    if not config.teacher.shard:
        return False
    if processes == 1:
        raise UserError(ONE_PROCESS)
    if config.cache.mode != "never":  # one process would run the teacher while another reads the cache
        raise UserError(
            "teacher.shard=true runs the teacher in every process at once, without a cache: cache.mode=never"
        )
    if config.trainer.compile == "both":
        raise UserError("teacher.shard=true runs the teacher as it is: trainer.compile=student, or false")
    return True


def _alias(model: Model) -> Model:
    """A second network on the same tensors; replacing its tensors leaves the first unchanged."""
    weights = {id(p): nn.Parameter(p.detach().contiguous(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, weights | {id(b): b.detach() for b in model.buffers()})


def _read_by_terms(model: Model, extractor: FeatureExtractor) -> list[nn.Module]:
    """The layers whose weights terms read, or ship, without running them."""
    head = [model.net.get_submodule(model.info.head)] if model.info.head is not None else []
    return head + [norm for norm in getattr(extractor, "norms", []) if norm is not None]


def _blocks(module: nn.Module, large: float) -> Iterator[nn.Module]:
    """The entries of the network's lists of layers; inner ones first, and only if the outer one is large.

    Nothing smaller: an attention may read the weights of its own layers without running them.
    """
    listed = isinstance(module, LISTS)
    for child in module.children():
        block = listed and not isinstance(child, LISTS)
        if not block or sum(p.numel() for p in child.parameters()) > large:
            yield from _blocks(child, large)
        if block:
            yield child
