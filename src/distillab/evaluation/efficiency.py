"""What a model costs to deploy: parameters, multiply-adds, latency, throughput, memory and bytes."""

from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distillab.core.output import rank_zero_warn
from distillab.core.result_parts import STEADY, Efficiency
from distillab.models.model import Model, placed
from distillab.models.trace import evaluation_mode

WARMUP = 3  # calls before the timed ones at most
ROUNDS = 3  # of timed calls, one after the other, whose medians are to agree
PATIENCE = 1  # times as long as on a quiet machine it is tried again where they do not
TAIL = 20  # calls that a 95th percentile takes
BATCH = 64  # samples in the batch that is timed and whose memory is measured


def parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones too; shared ones once, buffers not."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_bytes(model: nn.Module) -> int:
    """Bytes of the tensors in the state dict, tied ones once: the safetensors file without its header of a few kB."""
    tensors = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
    return sum({tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def multiply_adds(model: Model) -> int:
    """Multiply-adds of one sample's forward pass: convolutions, matrix products and attention; the model is left as found.

    Elementwise work (normalisation, activations, pooling, biases) is not counted, as is usual in the literature.
    """
    with torch.no_grad(), evaluation_mode(model):
        return counted(lambda: model(**model.example_inputs(1)))


def counted(call: Callable[[], Any]) -> int:
    """Multiply-adds of a call, of the same operations; a backward pass in it counts too."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    # nn.MultiheadAttention's fused inference kernel has no formula in the counter and would count as nothing, and before
    # torch 2.15 neither has the fused attention of a CPU.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    return counter.get_total_flops() // 2


def latency(model: Model, *, runs: int = 100, batch_size: int = BATCH, seconds: float = 2.0) -> dict[str, float | None]:
    """Milliseconds of a forward pass where the model lies, after a warm-up; the model is left as found.

    `runs` calls are timed for one sample and a fifth of them for a batch, fewer where the `seconds` of both together run
    out; on a busy machine again, until `ROUNDS` of them agree or the seconds are over `PATIENCE` times more. Found are median
    and 95th percentile, None of fewer than `TAIL` calls, `throughput`, samples per second by the batch's median, and
    `latency_spread`: by what share repeated timings differ, the larger of the two.
    """
    found: dict[str, float | None] = {}
    spreads = []
    with torch.no_grad(), evaluation_mode(model):
        for name, size, most in (("latency", 1, runs), ("latency_batch", batch_size, runs // 5)):
            call = partial(model, **model.example_inputs(size))
            times, spread = steady_timings(call, placed(model)[0], most, seconds / 2)
            found[f"{name}_ms"] = 1e3 * float(np.median(times))
            found[f"{name}_p95_ms"] = 1e3 * float(np.percentile(times, 95)) if len(times) >= TAIL else None
            spreads.append(spread)
    return found | {"throughput": batch_size / float(np.median(times)), "latency_spread": max(spreads)}


def peak_memory_bytes(model: Model, batch_size: int = BATCH) -> int:
    """Bytes that a forward pass needs at its worst moment: weights, buffers, and all tensors alive then, the batch too.

    On the CPU the live tensors are counted after every operation, so what a kernel borrows while it works is left out; a
    GPU's allocator counts it too. The program and its libraries never count.
    """
    with torch.no_grad(), evaluation_mode(model):
        return peak_bytes(model, lambda: model(**model.example_inputs(batch_size)))


def peak_bytes(model: Model, call: Callable[[], Any]) -> int:
    """The same of any use of a model."""
    device, _ = placed(model)
    storages = (tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers()))
    held = {storage._cdata: storage.nbytes() for storage in storages}  # unlike data_ptr not 0 for every empty tensor
    weights = sum(held.values())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return weights + torch.cuda.max_memory_allocated(device) - before
    with _LiveTensors(set(held)) as live:
        call()
    return weights + live.peak


def live_peak(step: Callable[[], Any], known: Iterable[Tensor]) -> int:
    """Bytes of the tensors alive at the worst moment of a step on the CPU, without those that are `known` before it."""
    with _LiveTensors({tensor.untyped_storage()._cdata for tensor in known}) as live:
        step()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that exist after every operation, but for `known` storages."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.peak = known, 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if storage._cdata not in self.known:
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: (storage, size) for key, (storage, size) in self.alive.items() if not storage.expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def measure(model: Model, device: str | torch.device = "cpu") -> dict[str, Any]:
    """The figures of `Efficiency`, measured on `device`; the model goes back to where it was."""
    home, device = placed(model)[0], torch.device(device)
    model.to(device)
    try:
        found = {
            "parameters": parameters(model),
            "multiply_adds": multiply_adds(model),
            **latency(model),
            "peak_memory_bytes": peak_memory_bytes(model),
            "size_bytes": size_bytes(model),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
    finally:
        model.to(home)
    if not Efficiency(**found).steady:
        rank_zero_warn(
            f"the machine is busy: repeated timings of {model.info.name} differ by "
            f"{100 * found['latency_spread']:.0f} %, and no speed is compared; rerun=true measures again"
        )
    return found


def steady_timings(
    call: Callable[[], Any], device: torch.device, runs: int, seconds: float
) -> tuple[list[float], float]:
    """Seconds of each call in the last rounds, and the share by which the medians of these rounds differ.

    A program that gets only a part of a CPU may be slowed down evenly; the time that others had there counts as well.
    """
    _timings(call, device, WARMUP, seconds)
    rounds: list[list[tuple[float, float]]] = []
    end = perf_counter() + PATIENCE * seconds
    while True:
        rounds = [*rounds[1 - ROUNDS :], _timings(call, device, -(-runs // ROUNDS), seconds / ROUNDS)]
        medians = [np.median(each, axis=0) for each in rounds]
        walls = [wall for wall, _ in medians]
        lost = max(wall / max(used, 1e-9) - 1 for wall, used in medians) if device.type == "cpu" else 0.0
        spread = float(max(max(walls) / min(walls) - 1, lost))
        if len(rounds) == ROUNDS and (spread <= STEADY or perf_counter() > end):
            return [wall for each in rounds for wall, _ in each], spread


def _timings(call: Callable[[], Any], device: torch.device, most: int, seconds: float) -> list[tuple[float, float]]:
    """Seconds of each call, of which there is one at least, by the clock and of this program on all its CPUs."""
    times, end = [], perf_counter() + seconds
    while not times or (len(times) < most and perf_counter() < end):
        start, used = perf_counter(), process_time()
        call()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append((perf_counter() - start, process_time() - used))
    return times
