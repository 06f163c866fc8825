"""Phases: which terms act and what they train, whose terms no phase names, and when a fit stops early."""

import lightning as L
import pytest
from helpers import small_run
from helpers.fits import SHAPE, assert_equal, strategy, weights
from torch import nn

from distillab import Distillation
from distillab.core.configuration import TrainerConfig
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol, Recipe
from distillab.training.callbacks import Curves
from distillab.training.fit import fit


def trainer(epochs, callbacks):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    return L.Trainer(max_epochs=epochs, callbacks=callbacks, **quiet)


class Look(L.Callback):
    """Notes by epoch which parameters learn."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_end(self, trainer, module, *_):
        self.seen[trainer.current_epoch] = {n for n, p in module.named_parameters() if p.requires_grad}


def test_phases_train_what_they_say(digits, network):
    module = Distillation(network(), network(seed=1), strategy("hint_two_phase"), input_shape=SHAPE)
    look = Look()
    trainer(4, [look]).fit(module, datamodule=digits.configure(64, 0))
    seen = look.seen
    assert "student.net.fc.weight" not in seen[0] and "student.net.layer1.0.conv1.weight" in seen[0]
    assert any(name.startswith("strategy.terms.hint.connector") for name in seen[0])
    assert "student.net.fc.weight" in seen[1]
    assert not any(name.startswith("strategy.") for name in seen[1])


@pytest.mark.parametrize(
    ("name", "said", "numbers"),
    [
        (
            "hint_two_phase",
            ["phase 1 of 2, epochs 1 to 1: hint → both", "phase 2 of 2, epochs 2 to 3: ce, kd → student"],
            [1, 2, 2],
        ),
        ("kd", [], [None] * 3),
    ],
)
def test_every_phase_is_announced_and_logged(name, said, numbers, digits, network, capsys):
    module, curves = Distillation(network(), network(seed=1), strategy(name), input_shape=SHAPE), Curves()
    engine = trainer(3, [curves])
    engine.fit(module, datamodule=digits.configure(64, 0))
    assert [line for line in capsys.readouterr().out.splitlines() if "phase" in line] == said
    assert [epoch.get("phase") for epoch in curves.epochs] == numbers
    assert engine.logged_metrics.get("phase") == numbers[-1]


def test_the_connectors_of_a_term_that_no_phase_names_learn(digits, network):
    module = Distillation(network(), network(seed=1), strategy("ft", "vid"), input_shape=SHAPE)
    look = Look()
    trainer(2, [look]).fit(module, datamodule=digits.configure(64, 0))
    first, last = (
        {name.split(".")[2] for name in look.seen[epoch] if name.startswith("strategy.")} for epoch in (0, 1)
    )
    assert first == {"paraphraser"} and last == {"ft", "vid"}


class Numbers(L.Callback):
    """Notes each epoch's rates and the weight of dkd."""

    def __init__(self):
        self.rates, self.weights = {}, []

    def on_train_batch_end(self, trainer, module, *_):
        self.rates.setdefault(trainer.current_epoch, set()).add(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, module):
        self.weights.append(round(module.strategy.terms["dkd"].weight, 6))


def before(name, *others, epochs=2):
    """A strategy whose extra phase has so many epochs."""
    parts = strategy(name, *others)
    parts["phases"][0]["epochs"] = epochs
    return parts


def test_a_phase_before_the_recipe_has_its_own_rate_and_the_schedules_begin_behind_it(digits, network):
    recipe = Recipe.of({"optimizer": "sgd", "lr": 0.05, "schedule": "step", "milestones": [0.5], "epochs": 4})
    parts = before("ft", "dkd")
    parts["dkd"]["weight"] = {"value": 2.0, "warmup": 2}
    module = Distillation(network(), network(seed=1), parts, input_shape=SHAPE, recipe=recipe)
    seen = Numbers()
    trainer(6, [seen]).fit(module, datamodule=digits.configure(64, 0))
    rates = [rate for epoch in range(6) for [rate] in [seen.rates[epoch]]]
    assert rates == pytest.approx([0.01, 0.01, 0.05, 0.05, 0.005, 0.005])
    assert seen.weights == [1, 1, 1, 2, 2, 2]  # the warm-up takes the first two epochs of the recipe


@pytest.mark.parametrize("recipe", [{"epochs": 2}, {"epochs": None, "steps": 3}], ids=["epochs", "steps"])
@pytest.mark.parametrize("stop", [1, 5], ids=["before", "behind"])
def test_a_fit_that_stops_goes_on_to_the_same_weights_in_a_phase_before_the_recipe_too(
    recipe, stop, few_digits, network, tmp_path
):
    recipe = Recipe.of(recipe | {"batch_size": 64, "optimizer": "sgd", "lr": 0.05})
    data = few_digits.configure(64, 0)  # two steps to an epoch
    how = {"recipe": recipe, "protocol": Protocol("standard", 0.1), "trainer": TrainerConfig(accelerator="cpu")}

    def run(folder):
        module = Distillation(network(), network(seed=1), before("ab"), input_shape=SHAPE, recipe=recipe)
        return fit(module, data, **how, directory=tmp_path / folder, title="ab"), weights(module)

    found, whole = run("whole")
    assert (found.epochs, found.steps) == (4, None if recipe.epochs else 4 + 3)
    with small_run.stopped_at(stop, term="ab"):
        run("broken")
    again, resumed = run("broken")
    assert again.resumed and again.epochs == 4
    assert_equal(whole, resumed)


class Plain(nn.Module):
    """Without BatchNorm: at rate 0 nothing changes."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU())
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(self.layer1(x).mean((2, 3)))


@pytest.mark.parametrize(("name", "trained"), [("ft", 5), ("none", 2)])
def test_patience_counts_from_the_last_phase(name, trained, tmp_path, digits):
    """Two epochs of the last phase are looked at, three of a first one are not."""
    parts = strategy(name)
    if "phases" in parts:
        parts["phases"][0]["epochs"] = 3
    module = Distillation(Plain(), Plain(), parts, input_shape=SHAPE, recipe={"lr": 0.0})
    recipe = Recipe(epochs=8, batch_size=128, lr=0.0, patience=1)
    data = digits.configure(128, 0)
    how = {"recipe": recipe, "protocol": Protocol("standard", 0.1), "trainer": TrainerConfig(accelerator="cpu")}
    assert fit(module, data, **how, directory=tmp_path, title=name).epochs == trained


def test_one_view_where_two_are_needed_is_refused_with_what_to_choose(digits, network, plain_loader):
    """From a plain loader, and from data that were configured for one."""
    for data in ({"train_dataloaders": plain_loader}, {"datamodule": digits.configure(64, 0, num_views=1)}):
        module = Distillation(network(), network(seed=1), strategy("crld"), input_shape=SHAPE)
        with pytest.raises(UserError, match=r"strategy\.ce learns from 2 views .* gives 1; fit .*, e\.g\. strategy=kd"):
            trainer(1, []).fit(module, **data)
        assert module.trainer.global_step == 0
