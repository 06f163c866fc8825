"""The linear rule for the rate; DOT: two steps by hand, SGD where both momenta are one, the fit around it, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from helpers.fits import SHAPE, DropoutNet, assert_equal, stop_and_resume, strategy, trainer, weights
from helpers.method_tester import MethodTester
from helpers.small_run import run
from torch import nn

from distillab import Distillation
from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.training.dot import DOT
from distillab.training.optimizer import make_optimizer

DOT_RECIPE = {"optimizer": "dot", "lr": 0.05, "weight_decay": 1e-2}


class TestDOT(MethodTester):
    by_hand = {"DOT": lambda: test_two_steps_by_hand(2)}
    hand_mutations = [
        (
            "DOT",
            "momentum - delta).add_(of_task)",
            "momentum + delta).add_(of_task)",
            "the task's momentum lasts longer too",
        ),
        ("DOT", "parameter.grad - of_task", "parameter.grad", "the task's gradient twice"),
        ("DOT", "gradient if before is None else before + gradient", "gradient", "the last of several batches alone"),
        ("DOT", 'alpha=group["weight_decay"]', "alpha=0", "no weight decay"),
    ]


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        ({"batch_size": 256}, 0.1),
        ({"batch_size": 256, "linear_lr": 64}, 0.4),
        ({"batch_size": 32, "linear_lr": 64}, 0.05),
        ({"batch_size": 32, "accumulate": 4, "linear_lr": 64}, 0.2),  # 128 images to a step
    ],
)
def test_the_linear_rule_follows_the_images_of_a_step(recipe, rate):
    recipe = Recipe.of({"lr": 0.1, **recipe})
    assert recipe.peak_lr == pytest.approx(rate)
    for optimizer in ("sgd", "adamw", "dot"):
        group = make_optimizer(replace(recipe, optimizer=optimizer), [nn.Parameter(torch.zeros(2, 2))]).param_groups[0]
        assert group["lr"] == pytest.approx(rate)


def test_the_linear_rule_is_the_rate_of_a_fit(digits, network):
    ends = []
    for recipe in ({"lr": 0.05}, {"lr": 0.2, "linear_lr": 256}, {"lr": 0.2}):
        recipe = {"optimizer": "sgd", "batch_size": 64} | recipe
        ends.append(weights(fitted(digits, network, "kd", recipe)))
    assert_equal(ends[0], ends[1])
    assert any((ends[0][name] != ends[2][name]).any() for name in ends[0])


@pytest.mark.parametrize("value", [0, -64, 1.5, True])
def test_a_linear_rule_needs_a_batch(value):
    with pytest.raises(UserError, match=r"recipe\.linear_lr must be a whole number from 1"):
        Recipe.of({"linear_lr": value})


def two_losses(x):
    return x.square() / 2, 3 * x  # gradients x and 3


def step(optimizer, x, accumulate=1):
    optimizer.zero_grad()
    for _ in range(accumulate):
        task, distil = two_losses(x)
        loss = (task + distil) / accumulate
        optimizer.split(loss, [task], [x])
        loss.backward()
    optimizer.step()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_steps_by_hand(accumulate):
    x = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    optimizer = DOT([x], lr=0.1, momentum=0.8, delta=0.1, weight_decay=0.5)
    step(optimizer, x, accumulate)
    v, w = 2.0 + 0.5 * 2.0, 3.0
    first = 2.0 - 0.1 * (v + w)
    assert x.item() == pytest.approx(first, rel=1e-12)
    step(optimizer, x, accumulate)
    v, w = 0.7 * v + first + 0.5 * first, 0.9 * w + 3.0
    assert x.item() == pytest.approx(first - 0.1 * (v + w), rel=1e-12)


def test_a_parameter_of_one_kind_of_term_learns_as_under_sgd():
    x, y = (nn.Parameter(torch.tensor(2.0, dtype=torch.float64)) for _ in range(2))
    dot = DOT([x], lr=0.1, momentum=0.8, delta=0.1, weight_decay=0.5)
    sgd = torch.optim.SGD([y], lr=0.1, momentum=0.8, weight_decay=0.5)
    for _ in range(3):
        for optimizer, parameter in ((dot, x), (sgd, y)):
            optimizer.zero_grad()
            two_losses(parameter)[0].backward()
            optimizer.step()
    assert x.item() == pytest.approx(y.item(), rel=1e-12)


def test_what_one_phase_gave_momentum_moves_on_where_the_next_has_one_kind():
    x = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    optimizer = DOT([x], lr=0.1, momentum=0.8, delta=0.1)
    step(optimizer, x)
    velocity, before = 2.0 + 3.0, x.item()
    optimizer.zero_grad()
    two_losses(x)[0].backward()
    optimizer.step()
    assert x.item() == pytest.approx(before - 0.1 * (0.8 * velocity + before), rel=1e-12)
    assert list(optimizer.state[x]) == ["momentum_buffer"]


def fitted(digits, network, name, recipe, epochs=1, **arguments):
    module = Distillation(network(), network(seed=1), strategy(name), input_shape=SHAPE, recipe=recipe)
    trainer(epochs, **arguments).fit(module, datamodule=digits.configure(64, 0))
    return module


@pytest.mark.parametrize(("name", "batches"), [("kd", 1), ("hint", 1), ("hint", 2)])
def test_without_a_difference_of_momenta_a_fit_is_sgd(name, batches, digits, network):
    """With `hint`, later layers and the connector are reached by one kind of term only.

    In float64, as what float32 rounds may grow to a hundredth of what the momenta make.
    """
    ends = []
    for recipe in (DOT_RECIPE | {"dot_delta": 0.0}, DOT_RECIPE | {"optimizer": "sgd"}, DOT_RECIPE):
        module = fitted(digits, network, name, recipe, accumulate_grad_batches=batches, precision="64-true")
        ends.append(torch.cat([x.flatten() for x in weights(module).values()]))
    rounded, apart = (ends[0] - ends[1]).norm(), (ends[2] - ends[1]).norm()
    assert rounded < 1e-6 * apart


def test_a_fit_takes_the_steps_that_two_backward_passes_give(digits, network):
    """Each kind's gradient by a backward pass of its own, the buffers of both in plain tensors."""
    module = fitted(digits, network, "hint", DOT_RECIPE | {"schedule": "constant"})
    again = Distillation(network(), network(seed=1), strategy("hint"), input_shape=SHAPE, recipe=DOT_RECIPE)
    data = digits.configure(64, 0)
    again.train()
    parameters = [*again.student.parameters(), *again.strategy.parameters()]
    decays = [p.ndim > 1 for p in parameters]
    v, w = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for batch in data.train_dataloader():
        losses = again.losses(data.on_after_batch_transfer(batch), ("ce", "hint"))
        g, h = (
            torch.autograd.grad(losses[name], parameters, retain_graph=True, allow_unused=True)
            for name in ("ce", "hint")
        )
        with torch.no_grad():
            for i, p in enumerate(parameters):
                of_both = g[i] is not None and h[i] is not None
                decayed = 1e-2 * p * decays[i]
                v[i] = (0.825 if of_both else 0.9) * v[i] + (g[i] if g[i] is not None else 0)
                w[i] = (0.975 if of_both else 0.9) * w[i] + (h[i] if h[i] is not None else 0)
                v[i] += decayed
                p -= 0.05 * (v[i] + w[i])
    for name, tensor in weights(module).items():
        torch.testing.assert_close(tensor, weights(again)[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_stop_in_mid_epoch_and_a_resume_end_in_the_unbroken_weights(stop_at, tmp_path, few_digits, network):
    def make():
        torch.manual_seed(0)
        return Distillation(DropoutNet(), network(seed=1), strategy("kd"), input_shape=SHAPE, recipe=DOT_RECIPE)

    data = lambda module: few_digits.configure(48, 0)  # noqa: E731 - 128 images: 3 steps an epoch
    assert_equal(*stop_and_resume(make, data, stop_at, 3, tmp_path))


def test_a_phase_of_one_kind_follows_a_phase_of_both(digits, network):
    phases = [{"epochs": 1, "terms": ["ce", "hint"]}, {"epochs": 1, "terms": ["ce"], "optimizer": "keep"}]
    parts = {**strategy("hint"), "phases": phases}
    module = Distillation(network(), network(seed=1), parts, input_shape=SHAPE, recipe=DOT_RECIPE)
    engine = trainer(2)
    engine.fit(module, datamodule=digits.configure(64, 0))
    state = engine.optimizers[0].state
    assert list(state[module.student.net.conv1.weight]) == ["momentum_buffer"]


@pytest.mark.parametrize("name", ["none", "simkd_like", "one_at_a_time"])
def test_dot_without_both_kinds_at_once_is_refused(name, network):
    parts = {
        "none": strategy("none"),
        "simkd_like": {"hint": strategy("hint")["hint"]},
        "one_at_a_time": {**strategy("hint"), "phases": [{"epochs": 1, "terms": ["hint"]}, {"terms": ["ce"]}]},
    }[name]
    with pytest.raises(UserError, match=r"recipe\.optimizer=dot .*recipe\.optimizer=sgd") as error:
        Distillation(network(), network(seed=1), parts, input_shape=SHAPE, recipe=DOT_RECIPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "mends"),
    [
        ({"nesterov": True}, "recipe.nesterov=false"),
        ({"clip": 1.0}, "recipe.clip=null"),
        ({"precision": "16-mixed"}, "recipe.precision=bf16-mixed"),
        ({"dot_delta": 0.1}, "recipe.dot_delta=0.1"),
        ({"momentum": 0.05}, "recipe.dot_delta=0.075"),
        ({"dot_delta": -0.1}, "recipe.dot_delta must be a number from 0"),
    ],
)
def test_what_dot_does_not_take_is_refused(change, mends):
    with pytest.raises(UserError) as error:
        Recipe.of(DOT_RECIPE | change)
    assert mends in str(error.value) and "\n" not in str(error.value)
    if "dot_delta" not in change:
        Recipe.of(DOT_RECIPE | change | {"optimizer": "sgd"})


def test_a_plain_trainer_that_clips_is_refused(digits, network):
    with pytest.raises(UserError, match=r"recipe\.clip=null"):
        fitted(digits, network, "kd", DOT_RECIPE, gradient_clip_val=1.0)


def test_alone_dot_is_sgd():
    recipe = Recipe.of(DOT_RECIPE | {"dot_delta": 0.05})
    assert recipe.alone == Recipe.of(DOT_RECIPE | {"optimizer": "sgd"})
    assert Recipe.of(DOT_RECIPE | {"optimizer": "sgd", "dot_delta": 0.05}).alone == recipe.alone


def test_a_run_with_dot_has_the_baseline_of_one_with_sgd(tmp_path, unmeasured):
    short = ["recipe=cifar", "recipe.epochs=1", "teacher.recipe.epochs=1", "data.samples=256", "student=resnet8"]
    short += ["equal_compute=false"]
    with_sgd = run(tmp_path, *short)
    with_dot = run(tmp_path, *short, "recipe.optimizer=dot", "recipe.dot_delta=0.09")
    assert with_dot.baseline.training.reused and with_dot.teacher.training.reused
    assert with_dot.config_hash != with_sgd.config_hash


def test_a_run_refuses_what_dot_cannot_do_before_it_trains(tmp_path):
    with pytest.raises(UserError, match=r"recipe\.optimizer=sgd"):
        run(tmp_path, "strategy=none", "recipe.optimizer=dot")
    assert not (tmp_path / "store").exists()


def test_the_recipes_numbers_reach_the_optimizer():
    optimizer = make_optimizer(
        Recipe.of(DOT_RECIPE | {"momentum": 0.8, "dot_delta": 0.1}), [*nn.Linear(2, 2).parameters()]
    )
    weight, bias = optimizer.param_groups
    assert (weight["momentum"], weight["delta"], weight["weight_decay"], bias["weight_decay"]) == (0.8, 0.1, 1e-2, 0.0)
