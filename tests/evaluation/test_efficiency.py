from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distillab.core.result_parts import Efficiency
from distillab.evaluation import efficiency
from distillab.models.model import Model, placed
from distillab.reporting import cost_words


class Plain(Model):
    """Any module that takes one tensor of this shape."""

    info = SimpleNamespace(name="plain")  # what measures a network asks for its name: a mixture has no `net`

    def __init__(self, net, *shape):
        super().__init__()
        self.net, self.shape = net, shape

    def forward(self, x):
        return self.net(x)

    def example_inputs(self, size=2):
        device, dtype = placed(self)
        return {"x": torch.rand(size, *self.shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)}


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 5),
    )  # fmt: skip


def test_parameters_and_bytes_by_hand():
    model = small_net()
    weights = (3 * 8 * 9 + 8) + (8 + 8) + (2 * 8 * 9 + 8) + (8 * 5 + 5)
    assert efficiency.parameters(model) == weights
    # BatchNorm's two running statistics (float32) and its counter (int64) travel with the weights.
    assert efficiency.size_bytes(model) == 4 * (weights + 16) + 8
    model[0].requires_grad_(False)
    assert efficiency.parameters(model) == weights


def test_size_is_the_safetensors_file_without_its_header(tmp_path):
    from safetensors.torch import save_file

    model = small_net().half()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert efficiency.size_bytes(model) == path.stat().st_size - header


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(7, 7, bias=False), nn.Linear(7, 7, bias=False))
    model[1].weight = model[0].weight
    assert (efficiency.parameters(model), efficiency.size_bytes(model)) == (49, 4 * 49)


def test_multiply_adds_by_hand():
    expected = 8 * 16 * 16 * (3 * 9) + 8 * 8 * 8 * (2 * 9) + 8 * 5
    assert efficiency.multiply_adds(Plain(small_net(), 3, 16, 16)) == expected
    assert efficiency.multiply_adds(Plain(small_net(), 3, 16, 16).to(torch.bfloat16)) == expected


def test_attention_is_counted_though_its_inference_kernel_is_fused():
    tokens, width, inner = 10, 16, 32
    layer = nn.TransformerEncoderLayer(width, 4, inner, batch_first=True)
    projections, products, feedforward = 4 * tokens * width**2, 2 * tokens**2 * width, 2 * tokens * width * inner
    assert efficiency.multiply_adds(Plain(layer, tokens, width)) == projections + products + feedforward
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    "measurement", [efficiency.multiply_adds, lambda model: efficiency.latency(model, seconds=0.02)]
)
def test_the_model_is_left_as_found(measurement):
    model = small_net().train()
    model[1].eval()  # a frozen BatchNorm inside a training model
    flags = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    measurement(Plain(model, 3, 8, 8))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert model(torch.rand(2, 3, 8, 8)).requires_grad


def test_flags_come_back_after_an_error():
    model = small_net().train()
    with pytest.raises(RuntimeError):
        efficiency.multiply_adds(Plain(model, 4, 8, 8))
    assert all(module.training for module in model.modules()) and torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


class Recorder(nn.Module):
    """Takes 1 ms per call of one sample and 4 ms for more, at first 30 ms, as a cold model would."""

    def __init__(self, cold=3):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.cold, self.seen = cold, []

    def forward(self, images):
        from time import perf_counter

        self.seen.append((len(images), self.training, torch.is_grad_enabled()))
        end = perf_counter() + (0.03 if len(self.seen) <= self.cold else 0.001 if len(images) == 1 else 0.004)
        while perf_counter() < end:
            pass
        return images


def test_latency_is_in_milliseconds_and_without_the_warm_up():
    model = Recorder()
    times = efficiency.latency(Plain(model, 2), runs=20, seconds=1.0)
    assert 1 <= times["latency_ms"] < 4 <= times["latency_batch_ms"] < 20
    assert times["latency_ms"] <= times["latency_p95_ms"]
    sizes = [size for size, *_ in model.seen]
    at_least = efficiency.WARMUP + 20, efficiency.WARMUP + 4  # more where the rounds do not agree
    assert sizes.count(1) >= at_least[0] and sizes.count(64) >= at_least[1]
    assert not any(training or gradient for _, training, gradient in model.seen)


def test_latency_of_a_slow_model_keeps_to_its_time():
    model = Recorder(cold=1000)
    times = efficiency.latency(Plain(model, 2), seconds=0.02)
    fewest = 2 * (1 + efficiency.ROUNDS)
    assert fewest <= len(model.seen) <= fewest + 2 * efficiency.PATIENCE
    assert times["latency_ms"] >= 30 and times["latency_batch_ms"] >= 30
    assert times["latency_p95_ms"] is times["latency_batch_p95_ms"] is None, "three calls have no tail"


class Waiting(nn.Module):
    """Takes 1 ms of the CPU, then waits as a process does whose CPU others take."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        from time import perf_counter, sleep

        end = perf_counter() + 0.001
        while perf_counter() < end:
            pass
        sleep(0.003)
        return images


def test_timings_on_a_busy_machine_are_repeated_marked_and_compared_with_nothing(monkeypatch, capsys):
    """A student was once called 98 times slower than its teacher, which was timed before the machine got busy."""
    calls = []
    timings = efficiency._timings
    monkeypatch.setattr(efficiency, "_timings", lambda *args: calls.append(args) or timings(*args))
    monkeypatch.setattr(efficiency, "PATIENCE", 2)
    busy = efficiency.latency(Plain(Waiting(), 2), runs=9, seconds=0.1)
    assert busy["latency_spread"] > 1 and len(calls) > 2 * (1 + efficiency.ROUNDS)
    monkeypatch.setattr(efficiency, "latency", lambda *_: busy)
    found = Efficiency(**efficiency.measure(Plain(small_net(), 3, 8, 8)))
    assert not found.steady and "the machine is busy" in capsys.readouterr().err
    quiet = found.model_copy(update={"latency_spread": 0.05, "latency_ms": 100 * found.latency_ms})
    assert quiet.steady and "latency_ms" in cost_words.ratios(quiet, quiet)
    assert cost_words.ratios(quiet, found).keys() == cost_words.ratios(found, quiet).keys() == {
        "parameters", "multiply_adds", "peak_memory_bytes", "size_bytes"}  # fmt: skip


def test_rounds_that_differ_are_a_spread(monkeypatch):
    medians = iter([1.0, 1.0, 2.0, 3.0, 3.0, 3.3])
    monkeypatch.setattr(efficiency, "_timings", lambda *_: [(time := next(medians), time)])
    times, spread = efficiency.steady_timings(lambda: None, torch.device("cpu"), 9, 1.0)
    assert times == [3.0, 3.0, 3.3] and spread == pytest.approx(0.1), "until three rounds agree"


def test_measure_names_its_conditions(monkeypatch):
    monkeypatch.setattr(efficiency, "latency", lambda *_: dict.fromkeys(["latency_ms"], 1.0))
    found = efficiency.measure(Plain(small_net(), 3, 16, 16), "cpu")
    assert (found["device"], found["threads"], found["latency_ms"]) == ("cpu", torch.get_num_threads(), 1.0)
    assert found["multiply_adds"] == efficiency.multiply_adds(Plain(small_net(), 3, 16, 16))


def test_throughput_is_the_batch_over_its_median():
    times = efficiency.latency(Plain(Recorder(), 2), runs=100, batch_size=32, seconds=0.6)
    assert times["throughput"] == pytest.approx(32 / (times["latency_batch_ms"] / 1e3))
    assert times["latency_batch_ms"] <= times["latency_batch_p95_ms"]


def test_peak_memory_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    weights = 4 * (2 * 9 + 128 * 3 + 3)
    batch, maps = 4 * 4 * 64, 4 * 4 * 2 * 64
    # The worst moment is the ReLU's: the batch, what the convolution gave and what the ReLU gives are all alive.
    assert efficiency.peak_memory_bytes(Plain(model, 1, 8, 8), 4) == weights + batch + 2 * maps
    model[1].inplace = True  # now the last layer's output is the most that comes beside one map
    assert efficiency.peak_memory_bytes(Plain(model, 1, 8, 8), 4) == weights + batch + maps + 4 * 4 * 3


def test_peak_memory_counts_what_a_shortcut_keeps_alive():
    class Shortcut(nn.Module):
        def forward(self, x):
            first = x + 1
            return first.mul(2).mul(2).mul(2) + first

    one = 4 * 8 * 100
    # The batch, the map that the shortcut keeps, and two maps of the path beside it.
    assert efficiency.peak_memory_bytes(Plain(Shortcut(), 100), 8) == 4 * one
    deep = nn.Sequential(*(nn.Sigmoid() for _ in range(50)))
    assert efficiency.peak_memory_bytes(Plain(deep, 100), 8) == 3 * one  # what is dropped does not add up


def test_tied_weights_and_buffers_in_the_peak_memory():
    model = nn.Sequential(nn.Linear(7, 7, bias=False), nn.Linear(7, 7, bias=False), nn.BatchNorm1d(7))
    model[1].weight = model[0].weight
    state = 4 * (49 + 4 * 7) + 8
    found = efficiency.peak_memory_bytes(Plain(model.train(), 7), 2)
    assert state + 3 * 4 * 14 <= found <= state + 3 * 4 * 14 + 4 * 4 * 7  # BatchNorm may give small statistics too
    assert model.training


def test_ratios_and_their_words():
    teacher = Efficiency(parameters=3000, multiply_adds=500, latency_ms=9.0, size_bytes=2_500_000, device="cpu")
    student = Efficiency(parameters=1500, multiply_adds=1000, latency_ms=2.0, size_bytes=1000, device="cpu")
    found = cost_words.ratios(teacher, student)
    known = {"parameters": 2, "multiply_adds": 0.5, "latency_ms": 4.5, "size_bytes": 2500}
    assert found == known
    words = "2× fewer parameters, 2× more multiply-adds, 4.5× faster on one image, 2,500× smaller on disk"
    assert cost_words.in_words(found) == words
    elsewhere = student.model_copy(update={"device": "a GPU"})
    assert cost_words.ratios(teacher, elsewhere).keys() == {"parameters", "multiply_adds", "size_bytes"}
    assert cost_words.ratios(Efficiency(parameters=3000), student) == {"parameters": 2}
    assert cost_words.in_words({}) == ""
