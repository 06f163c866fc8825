"""What a run is charged: the whole step with all that it trains, measured without leaving a trace in the fit."""

import hashlib
import math
import time

import pytest
import torch
from helpers import small_run

from distillab.commands import steps
from distillab.commands.invocation import parse
from distillab.core.errors import UserError
from distillab.core.timer import Timer
from distillab.core.weights import add_weights
from distillab.models.fingerprint import weights_hash
from distillab.schemes import charge
from distillab.strategies.semckd import projection
from distillab.teachers.frozen import FrozenTeacher
from distillab.training import stepwise

TINY = ("student=resnet8", "teacher=resnet14", "logger=none", "data.samples=128", "data.labelled=1.0")
TINY += ("recipe.epochs=2", "teacher.recipe.epochs=1", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One round."""
    monkeypatch.setattr(stepwise, "SECONDS", 0.0)


def ready(place, *words, charged=True):
    """A run's parts before its fit."""
    config = parse(small_run.composed(place, *words, base=TINY))
    made = steps.prepare(config, steps.check(config), Timer())
    steps.ready(made, charged=charged)
    return made


def forward_work(network, inputs):
    """Multiply-adds of the convolutions and linear layers in a forward pass: weights × places of the output."""
    found = []

    def count(layer, _, output):
        places = output[0, 0].numel() if output.ndim == 4 else 1
        found.append(layer.weight.numel() * places * len(output))

    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    network(*inputs) if isinstance(inputs, tuple) else network(**inputs)
    for handle in handles:
        handle.remove()
    return found


def own(strategy):
    """A hash of what terms have trained and remember."""
    digest = hashlib.sha256()
    add_weights(digest, strategy)
    return digest.hexdigest()


def test_the_heads_of_a_method_are_charged(place):
    """The student's layers and the heads work three times, the first for no gradient of its input; the teacher once."""
    kd = ready(place, "strategy=kd", "equal_compute=multiply_adds")
    semckd = ready(place, "strategy=semckd", "equal_compute=multiply_adds")
    inputs = kd.student.example_inputs(64)
    student, teacher = (forward_work(model, inputs) for model in (kd.student, kd.scheme.model))
    alone = 3 * sum(student) - student[0]
    assert kd.step.live == pytest.approx((alone + sum(teacher)) / alone, rel=0.01)
    assert kd.step.by == "multiply_adds" and kd.step.cached == 1 and kd.step.seconds is None
    stages = [(16, 8), (32, 4), (64, 2)]  # channels and side, of both networks
    heads = sum(
        sum(forward_work(projection(a, b), (torch.zeros(64, a, min(m, n), min(m, n)),)))
        for a, m in stages
        for b, n in stages
    )
    similarities = 64 * 64 * sum(channels * side**2 for channels, side in stages)
    expected = (alone + sum(teacher) + 3 * heads + (3 + 1) * similarities) / alone
    assert semckd.step.live == pytest.approx(expected, rel=0.03) and semckd.step.live > 2 * kd.step.live
    assert semckd.step.cached is None, "maps are in no cache"


def test_a_slow_teacher_costs_its_seconds_live_and_nothing_cached(place, monkeypatch):
    answer = FrozenTeacher.forward

    def slow(self, batch):
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return answer(self, batch)

    monkeypatch.setattr(FrozenTeacher, "forward", slow)
    monkeypatch.setattr(charge, "_clock", lambda fit: {"clock": time.process_time})
    monkeypatch.setattr(stepwise, "SECONDS", 2.0)
    step = ready(place, "strategy=kd", "strategy.kd.weight=0.7").step
    assert step.by == "seconds" and step.live > 2 * step.cached and step.seconds < 0.1
    assert (step.live - step.cached) * step.seconds == pytest.approx(0.1, rel=0.5)


@pytest.mark.parametrize("name", ["kd", "hint", "crd", "taid", "semckd"])
def test_a_fit_after_charging_is_the_fit_without(name, place, tmp_path):
    found = []
    for charged in (False, True):
        made = ready(place, f"strategy={name}", charged=charged)
        assert (made.step is not None) == charged
        steps.fit(made, tmp_path / str(charged), name, None)
        found.append((weights_hash(made.student), weights_hash(made.scheme.model), own(made.module.strategy)))
    assert found[0] == found[1]


@pytest.mark.parametrize("length", ["recipe.epochs=8", "recipe.steps=15"])
def test_epochs_before_the_recipes_are_charged_and_spent_at_equal_compute(length, tmp_path, unmeasured):
    """Eight epochs, the last cut where steps count, and one before them."""
    base = [word for word in TINY if not word.startswith("recipe.epochs")]
    found = small_run.run(tmp_path, "strategy=ab", length, "equal_compute=multiply_adds", base=base)
    training, longer = found.student.training, found.longer
    assert training.epochs == 9 and found.baseline.training.epochs == 8
    assert training.steps == (17 if "steps" in length else None)  # two to an epoch
    spent = (training.steps or training.epochs) * longer.step.live
    assert longer.step.live > 1 and (longer.steps or longer.epochs) == math.ceil(spent - 1e-9)


def test_charging_leaves_networks_and_generators_as_they_were(place):
    config = parse(small_run.composed(place, "strategy=crd", base=TINY))
    made = steps.prepare(config, steps.check(config), Timer())
    made.scheme.obtain(made.run)
    before = [weights_hash(model) for model in (made.student, made.scheme.model)]
    state = torch.get_rng_state()
    charge._measured(made.run, made.scheme, made.student, made.data)
    assert torch.equal(torch.get_rng_state(), state)
    assert [weights_hash(model) for model in (made.student, made.scheme.model)] == before
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for m in (*made.student.modules(), *made.scheme.model.modules())
    ]
    assert not any(hooks) and all(p.grad is None for p in made.student.parameters())


def test_seeds_and_reruns_are_charged_alike(place, monkeypatch):
    first = ready(place, "strategy=dkd").step
    monkeypatch.setattr(charge, "_measured", lambda *_: pytest.fail("it was measured already"))
    assert ready(place, "strategy=dkd", "seed=3", "data.view_seed=1").step == first
    with pytest.raises(pytest.fail.Exception, match="measured already"):
        ready(place, "strategy=dkd", "recipe.batch_size=32")


@pytest.mark.parametrize("scheme", ["mutual", "ema", "self"])
def test_schemes_without_a_fixed_teacher_are_charged_too(scheme, place):
    made = ready(place, f"scheme={scheme}", "equal_compute=multiply_adds")
    # Two peers are two students; an average has a forward pass, a third of a step; labels none.
    assert made.step.live == pytest.approx({"mutual": 2, "ema": 1.33, "self": 1}[scheme], abs=0.05)
    assert made.step.cached is None


def test_what_is_no_way_to_charge_is_refused(place):
    with pytest.raises(UserError, match='equal_compute must be one of true, multiply_adds, false, got "seconds"'):
        ready(place, "equal_compute=seconds")
