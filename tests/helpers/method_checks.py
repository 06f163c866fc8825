"""What every pure loss must pass: `CHECKS` of a function on a `Case`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillab.core.errors import UserError


@dataclass(frozen=True)
class Case:
    """One function with one set of arguments.

    Attributes:
        reference: a second way to the value: takes the same arguments as numpy arrays, gives a float.
        student: arguments that carry gradient, by name.
        teacher: tensor arguments that never do, by name.
        rest: labels, temperatures and other arguments.
        rows: True where the first dimension is the batch, so that a batch of one and equal rows are tried.
        extreme: True where the tensors are logits, tried at ±1e4.
        twice: False where the function documents that it cannot be differentiated twice.
        refuses_one: True where a batch of one gives a UserError.
        gradient: where a part of the function is held constant, which finite differences do not know: a second way to
            the gradient of the one student tensor, with the arguments of `reference`.
    """

    reference: Callable[..., float]
    student: Mapping[str, Any]
    teacher: Mapping[str, Any]
    rest: Mapping[str, Any] = field(default_factory=dict)
    rows: bool = True
    extreme: bool = False
    twice: bool = True
    refuses_one: bool = False
    gradient: Callable[..., np.ndarray] | None = None

    def arguments(self, change: Callable[[Tensor], Tensor] = lambda x: x) -> dict[str, Any]:
        """All of them, the tensors of student and teacher changed."""
        return {k: _each(v, change) for k, v in {**self.student, **self.teacher}.items()} | dict(self.rest)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return [change(v) for v in value] if isinstance(value, list) else change(value)


def _numpy(value: Any) -> Any:
    if isinstance(value, list):
        return [v.detach().numpy() for v in value]
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _tensors(arguments: Mapping[str, Any], names: Mapping[str, Any]) -> list[Tensor]:
    found = [arguments[name] for name in names]
    return [t for value in found for t in (value if isinstance(value, list) else [value])]


def check_value(function: Callable[..., Tensor], case: Case) -> None:
    """Equal to the second way."""
    arguments = case.arguments()
    value = function(**arguments)
    assert value.ndim == 0 and value.dtype == torch.float64
    expected = case.reference(**{k: _numpy(v) for k, v in arguments.items()})
    assert math.isclose(value.item(), expected, rel_tol=1e-8, abs_tol=1e-12), (value.item(), expected)


def check_gradient(function: Callable[..., Tensor], case: Case) -> None:
    """Gradient by finite differences, once and twice, or by hand; none reaches the teacher, one reaches the student."""
    arguments = case.arguments(lambda x: x.clone().requires_grad_())
    function(**arguments).backward()
    for tensor in _tensors(arguments, case.teacher):
        assert tensor.grad is None, "a gradient reaches the teacher"
    assert any(t.grad is not None and t.grad.abs().sum() > 0 for t in _tensors(arguments, case.student))
    if case.gradient is not None:
        (student,) = _tensors(arguments, case.student)
        expected = case.gradient(**{k: _numpy(v) for k, v in arguments.items()})
        assert np.allclose(student.grad.numpy(), expected, rtol=1e-8, atol=1e-12)
        return
    arguments = case.arguments()
    students = _tensors(arguments, case.student)
    places = {id(t): i for i, t in enumerate(students)}

    def of_students(*inputs: Tensor) -> Tensor:
        swap = lambda t: inputs[places[id(t)]] if id(t) in places else t  # noqa: E731
        return function(**{k: _each(v, swap) if isinstance(v, Tensor | list) else v for k, v in arguments.items()})

    inputs = [t.clone().requires_grad_() for t in students]
    assert torch.autograd.gradcheck(of_students, inputs, fast_mode=True)
    if case.twice:
        assert torch.autograd.gradgradcheck(of_students, inputs, fast_mode=True)


def check_widths(function: Callable[..., Tensor], case: Case) -> None:
    """Half precision goes in, float32 comes out, also under autocast; logits of ±1e4 stay finite, gradient too."""
    for half in (torch.float16, torch.bfloat16):
        changes = [lambda x: x]
        if case.extreme:
            changes.append(lambda x: 1e4 * x.sign())
            changes.append(lambda x: torch.where(x > 0, 1e4, -1e4 * x.abs().clamp(max=1)))
        for change in changes:
            arguments = case.arguments(lambda x, c=change, half=half: c(x).to(half).requires_grad_())
            with torch.autocast("cpu", dtype=half):
                value = function(**arguments)
            assert value.dtype == torch.float32 and torch.isfinite(value), value
            value.backward()
            for tensor in _tensors(arguments, case.student):
                assert tensor.grad is None or torch.isfinite(tensor.grad).all()


def check_small_batches(function: Callable[..., Tensor], case: Case) -> None:
    """Equal rows, one class only, and a batch of one: finite with its gradient, or refused by name."""
    if not case.rows:
        return
    tensors = {**case.student, **case.teacher}
    batch = len(_tensors(tensors, tensors)[0])

    def cut(value: Any, rows: list[int]) -> Any:
        is_rows = isinstance(value, Tensor) and value.ndim and len(value) == batch
        return [cut(v, rows) for v in value] if isinstance(value, list) else value[rows] if is_rows else value

    for rows in ([0] * 4, [0]):
        arguments = {k: cut(v, rows) for k, v in tensors.items()}
        arguments = {k: _each(v, lambda x: x.clone().requires_grad_()) for k, v in arguments.items()}
        rest = {k: cut(v, rows) for k, v in case.rest.items()}
        try:
            value = function(**arguments, **rest)
        except UserError:
            assert case.refuses_one and len(rows) == 1
            continue
        assert not (case.refuses_one and len(rows) == 1), "a batch of one was not refused"
        assert torch.isfinite(value)
        value.backward()
        for tensor in _tensors(arguments, case.student):
            assert tensor.grad is None or torch.isfinite(tensor.grad).all()


CHECKS = [check_value, check_gradient, check_widths, check_small_batches]
