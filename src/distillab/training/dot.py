"""Distillation-oriented trainer: separate momenta for the task's and the teacher's gradient (Zhao et al., ICCV 2023)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from distillab.core.errors import UserError
from distillab.core.gather import mean_over_devices
from distillab.strategies.strategy import Strategy


class DOT(torch.optim.Optimizer):
    """SGD with two momentum buffers: the teacher's lasts longer, so that it dominates the direction (ICCV 2023).

    With g the gradient of the task terms and h that of the distil terms: v ← (μ − Δ)·v + g + λθ, w ← (μ + Δ)·w + h,
    θ ← θ − lr·(v + w); μ is `momentum`, Δ `delta`, λ `weight_decay`. A parameter that only one kind of term reaches
    learns as under SGD with momentum μ. `split` must get the losses before each backward pass.
    """

    def __init__(
        self, parameters: ParamsT, lr: float, *, momentum: float = 0.9, delta: float = 0.075, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay})
        self.of_task: dict[nn.Parameter, Tensor] = {}

    def split(self, loss: Tensor, tasks: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Compute the task terms' share of the gradient; the rest of what `loss.backward()` gives is distil's.

        The loss is a function of the losses of the task terms; the parameters are those that both kinds of terms reach.
        """
        # The factor of the task losses in the loss, for instance 1 over the batches of a step.
        factors = torch.autograd.grad(loss, tasks, retain_graph=True)
        gradients = torch.autograd.grad(tasks, parameters, factors, retain_graph=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            before = self.of_task.get(parameter)
            self.of_task[parameter] = gradient if before is None else before + gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients, the task's too."""
        super().zero_grad(set_to_none)
        self.of_task.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        of_task = mean_over_devices(self.of_task)  # as DDP has done with the whole gradient
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, of_task.get(parameter), group)
        return loss

    def _update(self, parameter: nn.Parameter, of_task: Tensor | None, group: Mapping[str, Any]) -> None:
        state, momentum, delta = self.state[parameter], group["momentum"], group["delta"]
        buffer = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
        if of_task is None:
            if "distil_momentum_buffer" in state:  # in an earlier phase both kinds reached it
                buffer.add_(state.pop("distil_momentum_buffer"))
            buffer.mul_(momentum).add_(parameter.grad)
        else:
            buffer.mul_(momentum - delta).add_(of_task)
            of_distil = state.setdefault("distil_momentum_buffer", torch.zeros_like(parameter))
            of_distil.mul_(momentum + delta).add_(parameter.grad - of_task)
        buffer.add_(parameter, alpha=group["weight_decay"])
        for velocity in state.values():
            parameter.sub_(velocity, alpha=group["lr"])


def check_kinds(optimizer: str, strategy: Strategy) -> None:
    """Raise UserError if the optimiser is dot and no phase has both task terms and distil terms."""
    phases = [phase["terms"] for phase in strategy.phases] if strategy.phases else [strategy.terms]
    kinds = [{strategy.terms[name].kind for name in names} for names in phases]
    if optimizer == "dot" and not any(len(found) == 2 for found in kinds):
        raise UserError(
            f"recipe.optimizer=dot gives task and distil terms a momentum each, and {', '.join(strategy.terms)} are "
            f"never of both kinds at once; set recipe.optimizer=sgd, or choose a strategy with both, e.g. strategy=kd"
        )
