"""What a strategy is: its terms and phases; and that every method has its test file, and every config its test."""

from pathlib import Path

import pytest
import yaml
from helpers import mutations
from helpers.fits import CONFIGS, strategy
from helpers.two_networks import terms_that

from distillab import functional, strategies
from distillab.core.errors import UserError
from distillab.core.instantiate import conf_dir
from distillab.core.task_numbers import TASKS
from distillab.strategies.strategy import Strategy, shipped


def test_every_module_has_its_test_file():
    source, tests = Path(strategies.__file__).parent, Path(__file__).parent
    modules = {path.relative_to(source) for path in source.rglob("*.py") if path.name != "__init__.py"}
    files = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert {path.with_name(f"test_{path.name}") for path in modules} == files


def test_every_config_and_every_function_is_proven():
    testers = mutations.testers()
    assert sorted(name for tester in testers for name in (*tester.configs, *tester.text_configs)) == CONFIGS
    of_text = [name for tester in testers for name in tester.text_configs]
    assert of_text and all(
        TASKS in yaml.safe_load((conf_dir() / f"strategy/{name}.yaml").read_text()) for name in of_text
    )
    assert sorted(name for tester in testers for name in tester.cases) == functional.__all__
    assert {slip[0] for tester in testers for slip in tester.mutations} == set(functional.__all__)
    assert {"none", "kd", "hint", "hint_two_phase", "attention"} <= set(CONFIGS) and len(CONFIGS) > 30


def test_the_strategies_that_compare_samples_are_found():
    found = {name: terms_that(name, "global_batch") for name in CONFIGS}
    comparing = {name for name, terms in found.items() if terms}
    assert {"sp", "cc", "pkt", "rkd", "crd", "dist", "mlkd", "luminet", "semckd"} <= comparing
    assert found["mlkd"] and "kd" not in comparing
    assert all(found[name] == tuple(n for n in strategy(name) if n != "ce") for name in ("sp", "cc", "pkt", "rkd"))


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


def test_a_term_that_could_act_nowhere_is_refused():
    parts = strategy("hint", "attention") | {"phases": [{"epochs": None, "terms": ["hint"], "train": "connectors"}]}
    with pytest.raises(UserError, match=r"ce, attention would do nothing; leave it out with ~strategy\.ce"):
        Strategy.of(parts)


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


def test_a_strategy_has_the_numbers_of_its_task():
    texts, images = (Strategy.of("kd", task).terms for task in ("causal_lm", "image_classification"))
    assert (texts["ce"].weight, texts["kd"].weight, texts["kd"].temperature) == (0.5, 0.5, 1.0)
    assert (images["ce"].weight, images["kd"].weight, images["kd"].temperature) == (0.1, 0.9, 4.0)
    both = shipped(["hint", "abkd"], "causal_lm")
    assert (both["ce"]["weight"], both["hint"]["weight"]) == (0.5, 100.0)
    assert [both["abkd"][key] for key in ("weight", "alpha", "beta")] == [0.5, 0.2, 0.7]
