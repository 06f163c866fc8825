"""The calls of a network's submodules with their shapes, by a dry run."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from distillab.core.errors import UserError

IMAGES = 2  # in the dry run's batch
RESHAPED = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "Clone", "Select", "Alias")  # autograd's names for them
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
            mend = "choose another model, or give the side that it takes with input_size=…"
            raise UserError(f"{type(net).__name__} cannot take images of {size} ({reason}); {mend}") from error


def reaches_output(net: nn.Module, input_shape: tuple[int, ...], path: str) -> bool:
    """Whether the network's output is computed from that of a submodule; True where a dry run cannot tell.

    Some networks call a layer and drop what it gives: the pooler of a transformer whose class token is read.
    """
    end, given = _graph(net, input_shape, path)
    reached, left = set(), [end]
    while left:
        node = left.pop()
        if node is not None and node not in reached:
            reached.add(node)
            left += [before for before, _ in node.next_functions]
    return end is None or bool(given & reached)


def is_output(net: nn.Module, input_shape: tuple[int, ...], path: str) -> bool:
    """Whether a submodule's output is the network's own, but for its shape; True where a dry run cannot tell.

    An embedding may be normalised behind its last layer.
    """
    end, given = _graph(net, input_shape, path)
    while end is not None and end not in given and end.name().startswith(RESHAPED):
        end = end.next_functions[0][0]
    return end is None or end in given


def _graph(net: nn.Module, input_shape: tuple[int, ...], path: str) -> tuple[Node | None, set[Node]]:
    """Where autograd's graph of a dry run ends, None where there is none, and where each output of a submodule lies in it."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = next(net.parameters(), torch.empty(0)).device
    given: list[Tensor] = []
    hook = net.get_submodule(path).register_forward_hook(lambda module, args, output: given.append(output))
    try:
        with evaluation_mode(net), torch.random.fork_rng(devices=[]), torch.enable_grad(), suppress(Exception):
            with FakeTensorMode(allow_non_fake_inputs=True):
                images = torch.empty(IMAGES, *input_shape, device=device, requires_grad=True)
                output = net(images * 1)  # a network may write into its images, which a leaf forbids
            return output.grad_fn, {each.grad_fn for each in given} - {None}
    finally:
        hook.remove()
    return None, set()


def _recorded(net: nn.Module, example: Tensor) -> list[Call]:
    calls: list[Call] = []
    paths = {module: path for path, module in net.named_modules()}

    def record(module: nn.Module, args: tuple, output: object) -> None:
        if isinstance(output, tuple) and output and paths[module]:  # what else a layer gives stands behind
            output = output[0]
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
