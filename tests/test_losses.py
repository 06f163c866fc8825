"""Each loss against a second way of computing it, and its gradient."""

import math

import numpy as np
import pytest
import torch

from distillab import functional
from distillab.errors import UserError
from distillab.strategies.base import Schedule


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference_kd(s, t, temperature):
    """Row by row, class by class."""
    p, q = softmax(t.numpy() / temperature), softmax(s.numpy() / temperature)
    rows = [sum(a * (math.log(a) - math.log(b)) for a, b in zip(*pair, strict=True)) for pair in zip(p, q, strict=True)]
    return temperature**2 * sum(rows) / len(rows)


def reference_attention(f_s, f_t, p):
    """Sample by sample; the larger map is pooled by hand, a block at a time."""
    ratio = f_s.shape[-1] // f_t.shape[-1]
    side = f_t.shape[-1]
    total = 0.0
    for one, other in zip(f_s.numpy(), f_t.numpy(), strict=True):
        pooled = one.reshape(one.shape[0], side, ratio, side, ratio).mean((2, 4))
        maps = [(np.abs(x) ** p).mean(0).ravel() for x in (pooled, other)]
        a, b = (m / np.sqrt((m**2).sum()) for m in maps)
        total += ((a - b) ** 2).sum()
    return total / (len(f_s) * side * side)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_equals_the_sum_written_out(temperature):
    s, t = draw(5, 7), draw(5, 7, seed=1)
    assert functional.kd(s, t, temperature).item() == pytest.approx(reference_kd(s, t, temperature), rel=1e-12)
    assert functional.kd(t, t).item() == pytest.approx(0, abs=1e-14)


def test_hint_equals_the_mean_square():
    s, t = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    assert functional.hint(s, t).item() == pytest.approx(((s - t).numpy() ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_attention_equals_the_loop_and_pools_the_larger_map(p):
    s, t = draw(3, 5, 8, 8), draw(3, 2, 4, 4, seed=1)
    assert functional.attention_transfer(s, t, p).item() == pytest.approx(reference_attention(s, t, p), rel=1e-10)


CASES = {"kd": (4, 6), "hint": (2, 3, 4, 4), "attention_transfer": (2, 3, 4, 4)}


def test_every_function_is_covered():
    assert set(functional.__all__) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_gradients_widths_and_the_teacher(name):
    function, shape = getattr(functional, name), CASES[name]
    s, t = draw(*shape).requires_grad_(), draw(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, t.detach()), s)
    loss = function(s, t)
    assert loss.ndim == 0 and loss.dtype == torch.float64
    loss.backward()
    assert t.grad is None and s.grad.abs().sum() > 0
    for half in (torch.float16, torch.bfloat16):
        value = function(s.detach().to(half), t.detach().to(half))
        assert value.dtype == torch.float32 and torch.isfinite(value)


def test_kd_is_finite_where_logits_are_huge():
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = functional.kd(s, torch.tensor([[-1e4, 1e4, 0.0]]), 1.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("name", CASES)
def test_shapes_that_differ_are_refused(name):
    with pytest.raises(UserError, match="must"):
        getattr(functional, name)(draw(2, 3), draw(3, 4))


def test_schedules():
    assert [Schedule(2, warmup=4)(e) for e in (0, 1, 3, 9)] == [0.5, 1.0, 2.0, 2.0]
    assert [Schedule(2, start=2, until=4)(e) for e in range(5)] == [0, 0, 2, 2, 0]
    assert [round(Schedule(1, cosine=4)(e), 6) for e in (0, 2, 4, 8)] == [1, 0.5, 0, 0]
