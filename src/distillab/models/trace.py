"""The calls of a network's submodules with their shapes, by a dry run."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError

IMAGES = 2  # in the dry run's batch
SMALL = 64 * 64  # pixels: so small an image is sooner computed than followed through fake tensors


@dataclass(frozen=True)
class Call:
    """One call of a submodule during the dry run: its path, kind and shapes."""

    path: str
    kind: type[nn.Module]
    input: tuple[int, ...]
    output: tuple[int, ...]
    map: tuple[int, int, int] | None  # (channels, height, width) of an output that is a map or tokens
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
    """The calls of all submodules for one batch of IMAGES samples (C, H, W), in the order in which they end.

    In eval mode, and without a trace in the random numbers. Large images are fake tensors, so nothing is computed; a
    network that cannot run so runs for real. Raises UserError for a network that cannot take such images.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = next(net.parameters(), torch.empty(0)).device
    with evaluation_mode(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
        if math.prod(input_shape[1:]) > SMALL:
            with suppress(Exception), FakeTensorMode(allow_non_fake_inputs=True):
                return _recorded(net, torch.empty(IMAGES, *input_shape, device=device))
        try:
            return _recorded(net, torch.zeros(IMAGES, *input_shape, device=device))
        except Exception as error:
            reason, size = str(error).splitlines()[0], "×".join(map(str, input_shape))
            mend = "choose another model, or let it see larger ones with input_size=224"
            raise UserError(f"{type(net).__name__} cannot take images of {size} ({reason}); {mend}") from error


def _recorded(net: nn.Module, example: Tensor) -> list[Call]:
    calls: list[Call] = []
    paths = {module: path for path, module in net.named_modules()}

    def record(module: nn.Module, args: tuple, output: object) -> None:
        if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
            shapes = tuple(args[0].shape), tuple(output.shape), _map_shape(output.shape, example.shape)
            calls.append(Call(paths[module], type(module), *shapes, leaf=not any(module.children())))

    with ExitStack() as hooks:
        for module in paths:
            hooks.enter_context(module.register_forward_hook(record))
        net(example)
    return calls


def _map_shape(output: torch.Size, images: torch.Size) -> tuple[int, int, int] | None:
    """(channels, height, width) of a map (N, C, H, W), or of tokens (N, L, C) with any class tokens left out."""
    if len(output) == 4:
        one, two, three = output[1:]
        height, width = images[2:]
        # Channels are last where only so the map has the proportions of the image.
        last = one * width == two * height and two * width != three * height
        return (three, one, two) if last else (one, two, three)
    if len(output) == 3 and output[1] >= 4:
        side = math.isqrt(output[1])
        return output[2], side, side
    return None
