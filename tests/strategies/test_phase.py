"""A phase: its length beside the recipe's epochs, and its learning rate."""

from dataclasses import replace

import pytest
from helpers.fits import strategy

from distillab.core.errors import UserError
from distillab.core.recipe import Recipe
from distillab.strategies.phase import Phase, length
from distillab.strategies.strategy import Strategy

BEFORE = ("ab", "ft", "fsp")  # trained for 30 epochs before the 240 of the benchmark (arXiv 1910.10699)
SGD = Recipe.of({"optimizer": "sgd", "lr": 0.05, "schedule": "step", "epochs": 240})


@pytest.mark.parametrize("name", BEFORE)
def test_thirty_epochs_come_before_the_published_240(name):
    parts = Strategy.of(strategy(name))
    assert parts.whole(240) == 270
    first, second = parts.plan(270)
    assert (first.start, first.epochs, first.extra) == (0, 30, True)
    assert (second.start, second.epochs, second.extra) == (30, 240, False)
    assert first.fresh and second.fresh and first.schedule == "constant" and second.schedule is None


@pytest.mark.parametrize(("name", "lr"), [("ab", 0.05), ("ft", 0.01), ("fsp", 0.05)])
def test_their_rates_are_those_of_the_authors(name, lr):
    """0.05 and 0.01 in all but the students that learn at 0.01 throughout."""
    first, second = Strategy.of(strategy(name)).plan(270)
    assert (first.recipe(SGD).peak_lr, first.recipe(SGD).schedule) == (lr, "constant")
    assert second.recipe(SGD) == SGD
    assert first.recipe(replace(SGD, lr=0.01)).peak_lr == 0.01
    assert first.recipe(replace(SGD, optimizer="dot")).peak_lr == lr


def test_a_rate_is_that_of_the_recipes_optimiser_and_scaled_with_the_batch():
    phase = Phase(0, 1, ("kd",), lr=(("sgd", 0.01),))
    adam = Recipe.of({"optimizer": "adamw", "lr": 3e-3})
    assert phase.recipe(adam) == adam
    assert replace(phase, lr=1e-3).recipe(adam).lr == 1e-3
    assert phase.recipe(replace(SGD, linear_lr=64, batch_size=128)).peak_lr == pytest.approx(0.02)
    assert phase.recipe(replace(SGD, lr=0.0)).lr == 0.0  # nothing moves, as where the cost of a step is measured


def test_what_a_recipe_asks_for_is_what_it_gets():
    """From all epochs of a fit, which is what a trainer knows, follow those of the recipe."""
    for name in BEFORE:
        parts = Strategy.of(strategy(name))
        for epochs in (*range(1, 60), 240, 300):
            first, second = parts.plan(parts.whole(epochs))
            assert (first.epochs, second.epochs) == (length(0.125, epochs), epochs)
    first, second = parts.plan(13)  # which no recipe gives: 11 epochs are 12 in all, 12 are 14
    assert (first.epochs, second.start, second.epochs) == (1, 1, 12)
    assert Strategy.of(strategy("kd")).whole(240) == Strategy.of(strategy("hint_two_phase")).whole(240) == 240


def test_extra_epochs_can_be_a_number_and_others_follow():
    kd = strategy("kd")
    phases = [
        {"epochs": 2, "extra": True, "terms": ["kd"]},
        {"epochs": 0.25, "terms": ["kd"], "optimizer": "keep"},
        {"epochs": None, "terms": ["ce", "kd"]},
    ]
    parts = Strategy.of(kd | {"phases": phases})
    assert [(p.start, p.epochs) for p in parts.plan(parts.whole(8))] == [(0, 2), (2, 2), (4, 6)]


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ([{"epochs": None, "terms": ["kd"]}, {"epochs": 1, "extra": True}], "extra ones come before the others"),
        ([{"extra": True, "terms": ["kd"]}, {}], "each has epochs of its own"),
        ([{"lr": -1}], r"lr must be a number from 0, a mapping of sgd, adamw, dot to such, or null, got -1"),
        ([{"lr": {"adam": 0.1}}], r"strategy\.phases: lr must be a number from 0"),
        ([{"lr": {"sgd": True}}], r"strategy\.phases: lr must be a number from 0"),
        ([{"schedule": "linear"}], r"schedule must be one of one_cycle, cosine, step, constant or null"),
        ([{"extra": 1}], r"extra must be one of true, false"),
        ([{"rate": 1}], r'unknown key "rate" \(allowed: epochs, terms, train, optimizer, lr, schedule, extra\)'),
    ],
)
def test_what_cannot_be_is_refused_by_name(phases, said):
    with pytest.raises(UserError, match=said):
        Strategy.of(strategy("kd") | {"phases": phases})


def test_too_few_epochs_for_a_phase_before_and_one_of_the_recipe_are_refused():
    with pytest.raises(UserError, match=r"what is left behind 1 extra ones, but recipe\.epochs=0"):
        Strategy.of(strategy("ab")).plan(1)
