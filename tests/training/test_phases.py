"""Phases: which terms act and what they train, whose terms no phase names, and when a fit stops early."""

import lightning as L
import pytest
import yaml
from torch import nn

from distillab import Distillation
from distillab.commands.composition import conf_dir
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol, Recipe
from distillab.strategies.strategy import Strategy
from distillab.training.callbacks import Curves
from distillab.training.fit import fit

SHAPE = (1, 8, 8)


def strategy(*names):
    files = [yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text()) for name in names]
    return {name: node for file in files for name, node in file.items()}


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


@pytest.mark.parametrize(
    ("files", "acting"),
    [
        (("ft", "attention"), [("paraphraser",), ("ce", "ft", "attention")]),
        (("ab", "dkd"), [("ab",), ("ce", "dkd")]),
        (("hint_two_phase", "rld"), [("hint",), ("ce", "kd", "rld")]),
        (("hint_two_phase",), [("hint",), ("ce", "kd")]),
    ],
)
def test_every_term_acts_in_a_phase(files, acting):
    assert [phase.terms for phase in Strategy.of(strategy(*files)).plan(8)] == acting


def test_the_connectors_of_a_term_that_no_phase_names_learn(digits, network):
    module = Distillation(network(), network(seed=1), strategy("ab", "vid"), input_shape=SHAPE)
    look = Look()
    trainer(2, [look]).fit(module, datamodule=digits.configure(64, 0))
    first, last = (
        {name.split(".")[2] for name in look.seen[epoch] if name.startswith("strategy.")} for epoch in (0, 1)
    )
    assert first == {"ab"} and last == {"vid"}


def test_a_term_that_could_act_nowhere_is_refused():
    parts = strategy("hint", "attention") | {"phases": [{"epochs": None, "terms": ["hint"], "train": "connectors"}]}
    with pytest.raises(UserError, match=r"ce, attention would do nothing; leave it out with ~strategy\.ce"):
        Strategy.of(parts)


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
    config = yaml.safe_load((conf_dir() / "trainer" / "default.yaml").read_text()) | {"accelerator": "cpu"}
    data = digits.configure(128, 0)
    how = {"recipe": recipe, "protocol": Protocol("standard", 0.1), "trainer": config}
    assert fit(module, data, **how, directory=tmp_path, title=name)["epochs"] == trained


def test_one_view_where_two_are_needed_is_refused_with_what_to_choose(digits, network, plain_loader):
    """From a plain loader, and from data that were configured for one."""
    for data in ({"train_dataloaders": plain_loader}, {"datamodule": digits.configure(64, 0, num_views=1)}):
        module = Distillation(network(), network(seed=1), strategy("crld"), input_shape=SHAPE)
        with pytest.raises(UserError, match=r"strategy\.ce learns from 2 views .* gives 1; fit .*, e\.g\. strategy=kd"):
            trainer(1, []).fit(module, **data)
        assert module.trainer.global_step == 0


@pytest.mark.parametrize(
    ("name", "size", "devices", "least"),
    [("nd", 1, 1, 2), ("nd", 2, 2, 4), ("cc", 1, 1, 2), ("rkd", 1, 1, 2), ("cc", 2, 2, None), ("kd", 1, 1, None)],
)
def test_a_batch_too_small_for_a_term_is_refused(name, size, devices, least):
    terms = Strategy.of(strategy(name))
    if least is None:
        terms.check_batch(size, devices)
        return
    with pytest.raises(UserError, match=rf"strategy\.\w+ needs batches .* got {size}: recipe\.batch_size={least}"):
        terms.check_batch(size, devices)
