"""The calls of a network's submodules with their shapes, by a dry run that allocates nothing."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError

IMAGES = 2  # in the dry run's batch


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
    """The calls of all submodules for one batch of IMAGES samples (C, H, W), in the order in which they end.

    Runs on fake tensors, so nothing is computed; a network that cannot run so runs for real, in eval mode.

    Raises:
        UserError: the network cannot take such images.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = next(net.parameters(), torch.empty(0)).device
    with evaluation_mode(net), torch.no_grad():
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

    def record(path: str, leaf: bool):  # noqa: ANN202 - a hook
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
                calls.append(Call(path, type(module), tuple(args[0].shape), tuple(output.shape), leaf))

        return hook

    with ExitStack() as hooks:
        for path, module in net.named_modules():
            hooks.enter_context(module.register_forward_hook(record(path, not any(module.children()))))
        net(example)
    return calls
