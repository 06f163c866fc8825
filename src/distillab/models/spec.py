"""What a model looks like from outside: its stages, embedding and head, found by a dry run that allocates nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distillab.config import did_you_mean
from distillab.errors import UserError

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU)


@dataclass(frozen=True)
class Stage:
    """A depth in the network whose output is tapped.

    Attributes:
        name: module path inside the network.
        channels, height, width: shape of one sample's map there (tokens are laid out as the square they come from).
        activation: path of the activation that ends the stage; None where it ends in something else.
        norm: path of the BatchNorm before that activation; None where there is none.
    """

    name: str
    channels: int
    height: int
    width: int
    activation: str | None = None
    norm: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.name} ({self.channels}×{self.height}×{self.width})"


@dataclass(frozen=True)
class ModelSpec:
    """What a connector needs to know of a model: stages by depth, embedding width, classes, path of the head."""

    name: str
    stages: tuple[Stage, ...]
    embedding: int | None
    classes: int
    head: str | None


@dataclass(frozen=True)
class Call:
    """One call of a submodule during the dry run: its path, kind and shapes."""

    path: str
    kind: type[nn.Module]
    input: tuple[int, ...]
    output: tuple[int, ...]
    leaf: bool


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode, and each one's own flag put back afterwards."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training


def trace(net: nn.Module, input_shape: tuple[int, ...]) -> list[Call]:
    """The calls of all submodules for one batch of two samples, in the order in which they end.

    Runs on fake tensors, so nothing is computed; a network that cannot run so runs for real, in eval mode.

    Args:
        net: any network from images (N, C, H, W) to logits.
        input_shape: (C, H, W).

    Raises:
        UserError: the network cannot take such images.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    parameter = next(net.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    with evaluation_mode(net), torch.no_grad():
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                return _recorded(net, torch.empty(2, *input_shape, device=device))
        except Exception:
            try:
                return _recorded(net, torch.zeros(2, *input_shape, device=device))
            except Exception as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"{type(net).__name__} cannot take images of {'×'.join(map(str, input_shape))} ({reason}); "
                    f"choose another model, or let it see larger ones with input_size=224"
                ) from error


def _recorded(net: nn.Module, example: Tensor) -> list[Call]:
    calls: list[Call] = []

    def record(path: str, leaf: bool):  # noqa: ANN202 - a hook
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
                calls.append(Call(path, type(module), tuple(args[0].shape), tuple(output.shape), leaf))

        return hook

    handles = [
        module.register_forward_hook(record(path, not any(module.children()))) for path, module in net.named_modules()
    ]
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def describe(
    net: nn.Module,
    input_shape: tuple[int, ...],
    name: str,
    stages: list[str] | None = None,
    head: str | None = None,
) -> ModelSpec:
    """The spec of a network, its stages and head guessed where they are not given.

    Raises:
        UserError: a stage or head that the network does not have, or that is not an image map.
    """
    calls = trace(net, input_shape)
    last = {call.path: call for call in calls}
    logits = last[""].output if "" in last else ()
    if len(logits) != 2:
        raise UserError(
            f"{name} gives {logits or 'no tensor'} where logits (N, classes) are expected; wrap it so it does"
        )
    head = head or _guess_head(calls, logits[1])
    paths = stages if stages is not None else _guess_stages(calls)
    known = [call.path for call in calls if call.path and _map_shape(call.output)]
    for path in paths:
        if path not in known:
            top = list(dict.fromkeys(p for p in known if p.count(".") == 0)) or known[:12]
            raise UserError(f'{name} has no stage "{path}"{did_you_mean(path, known)} (its maps: {", ".join(top)})')
    if head is not None and head not in last:
        raise UserError(f'{name} has no head "{head}"; set head= to the path of its last linear layer')
    return ModelSpec(
        name,
        tuple(
            Stage(path, *_map_shape(last[path].output), _last_activation(calls, path), _last_norm(calls, path))
            for path in paths
        ),
        math.prod(last[head].input[1:]) if head else None,
        logits[1],
        head,
    )


def _map_shape(output: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, height, width) of a map (N, C, H, W), or of tokens (N, L, C) with any class tokens left out."""
    if len(output) == 4:
        return output[1], output[2], output[3]
    if len(output) == 3 and output[1] >= 4:
        side = math.isqrt(output[1])
        return output[2], side, side
    return None


def _guess_head(calls: list[Call], classes: int) -> str | None:
    """The last linear layer that gives as many outputs as there are logits."""
    heads = [call.path for call in calls if issubclass(call.kind, nn.Linear) and call.output == (2, classes)]
    return heads[-1] if heads else None


def _guess_stages(calls: list[Call]) -> list[str]:
    """The outermost module that ends each resolution; for tokens, four blocks at equal depths."""
    maps: dict[int, str] = {}
    for call in calls:
        if call.path and len(call.output) == 4 and 1 < call.output[2] <= min(maps, default=call.output[2]):
            maps[call.output[2]] = call.path  # modules end from the inside out: the last one is the outermost
    if len(maps) > 1:
        return list(maps.values())
    blocks = [c.path for c in calls if not c.leaf and len(c.output) == 3 and c.path[-1:].isdigit()]
    blocks = [path for path in dict.fromkeys(blocks) if path.count(".") == min(p.count(".") for p in blocks)]
    if len(blocks) >= 4:
        return [blocks[(len(blocks) * quarter) // 4 - 1] for quarter in (1, 2, 3, 4)]
    return blocks or list(maps.values())


def _last_activation(calls: list[Call], stage: str) -> str | None:
    """The activation that a stage ends with: its last leaf call, where that is one, and of the whole map."""
    shape = next(call.output for call in calls if call.path == stage)
    last = [call for call in calls if call.leaf and call.path.startswith(f"{stage}.")][-1:]
    return next((call.path for call in last if issubclass(call.kind, ACTIVATIONS) and call.output == shape), None)


def _last_norm(calls: list[Call], stage: str) -> str | None:
    """The stage's last BatchNorm on its main path: one that a shortcut calls is passed over."""
    shape = next(call.output for call in calls if call.path == stage)
    norms = [
        call.path
        for call in calls
        if call.path.startswith(f"{stage}.") and issubclass(call.kind, nn.BatchNorm2d) and call.output == shape
    ]
    main = [path for path in norms if "shortcut" not in path and "downsample" not in path]
    return (main or norms or [None])[-1]


def match_stages(student: ModelSpec, teacher: ModelSpec) -> list[tuple[int, int]]:
    """Pairs of stage numbers: one to one where the counts are equal, else by size, where the last of each size counts.

    A model whose maps never shrink (a transformer) pairs up by depth; so do the sizes of two models that have equally
    many of them.

    Raises:
        UserError: no way pairs every size of the model that has fewer; both lists are shown.
    """
    counts = (len(student.stages), len(teacher.stages))
    own, others = ({stage.size: i for i, stage in enumerate(spec.stages)} for spec in (student, teacher))
    sizes = min(len(own), len(others))
    if 0 < counts[0] == counts[1]:
        return [(i, i) for i in range(counts[0])]
    if sizes == 1 < min(counts):
        return [tuple(i * n // min(counts) - 1 for n in counts) for i in range(1, min(counts) + 1)]
    if 0 < sizes == len(own.keys() & others.keys()):
        return [(own[size], others[size]) for size in own if size in others]
    if len(own) == len(others) > 1:
        return list(zip(own.values(), others.values(), strict=True))
    raise UserError(
        f"the stages of {student.name} and {teacher.name} do not pair up: "
        f"{', '.join(map(str, student.stages)) or 'none'} against {', '.join(map(str, teacher.stages)) or 'none'}; "
        f"name as many on both sides, e.g. student.stages=[…] teacher.stages=[…]"
    )
