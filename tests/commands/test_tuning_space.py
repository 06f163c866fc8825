"""What tuning searches: around the defaults of the method, or what was asked for."""

import pytest
from omegaconf import OmegaConf

from distillab.commands.composition import compose, conf_dir
from distillab.commands.tuning.space import AROUND, TEMPERATURES, search_space, word
from distillab.core.errors import UserError


def resolved(*overrides):
    return OmegaConf.to_container(compose(list(overrides)), resolve=True)


def test_the_space_is_read_from_the_method():
    config = resolved("strategy=kd")
    found = search_space(config, {})
    assert list(found) == ["recipe.lr", "recipe.weight_decay", "strategy.kd.weight", "strategy.kd.temperature"]
    lr, weight = found["recipe.lr"], found["strategy.kd.weight"]
    assert (lr.default, lr.low, lr.high, lr.log) == (0.003, 0.003 / 10, 0.003 * 10, True)
    assert (weight.low, weight.high) == pytest.approx((0.09, 9.0))
    temperature = found["strategy.kd.temperature"]
    assert (temperature.default, temperature.low, temperature.high) == (4.0, 1.0, 20.0)
    assert list(search_space(resolved("strategy=none"), {})) == ["recipe.lr", "recipe.weight_decay"]


def test_schedules_phases_and_several_temperatures():
    assert "strategy.dkd.weight.value" in search_space(resolved("strategy=dkd"), {})
    found = search_space(resolved("strategy=[hint_two_phase,rld]"), {})
    assert [key.removeprefix("strategy.") for key in found if key.startswith("strategy")] == [
        "kd.weight", "kd.temperature", "hint.weight", "rld.weight.value", "rld.temperature", "rld.alpha_temperature",
    ]  # fmt: skip
    found = search_space({"recipe": {"lr": 1, "weight_decay": 0}, "strategy": {"a": {"temperature": 0.07}}}, {})
    assert list(found) == ["recipe.lr", "strategy.a.temperature"]  # 0 means off
    assert found["strategy.a.temperature"].low == pytest.approx(0.007)


def test_every_method_can_be_tuned_around_its_defaults():
    names = [path.stem for path in (conf_dir() / "strategy").glob("*.yaml")]
    assert len(names) > 30
    recipe = resolved()["recipe"]
    for name in names:
        strategy = OmegaConf.to_container(OmegaConf.load(conf_dir() / "strategy" / f"{name}.yaml"))
        found = search_space({"recipe": recipe, "strategy": strategy}, {})
        assert all(0 < number.low <= number.default <= number.high for number in found.values()), name
        assert all((number.low, number.high) == TEMPERATURES or number.high == pytest.approx(
            AROUND**2 * number.low) for number in found.values()), name  # fmt: skip


def test_the_space_can_be_changed():
    config = resolved("strategy=kd")
    changes = {"recipe.lr": [0.01, 0.5, "log"], "recipe.weight_decay": None, "recipe.epochs": [2, 9],
               "strategy.kd.weight": [1, 2], "strategy.hint.weight": [1, 2]}  # fmt: skip
    found = search_space(config, changes)
    assert "recipe.weight_decay" not in found and "strategy.hint.weight" not in found
    assert found["recipe.lr"].start == 0.01 and found["recipe.lr"].log
    assert type(found["recipe.epochs"].distribution()).__name__ == "IntDistribution"
    assert type(found["strategy.kd.weight"].distribution()).__name__ == "FloatDistribution"
    assert not found["strategy.kd.weight"].log and found["strategy.kd.weight"].start == 1
    assert word("a", 0.00123456) == "a=0.001235" and word("a", 7) == "a=7"


@pytest.mark.parametrize("bounds", [3, [1], [2, 1], [0, 1, "log"], [1, 2, "linear"], ["a", "b"], [1, 2, 3], "1,2"])
def test_bad_bounds_are_refused_in_one_line(bounds):
    with pytest.raises(UserError, match=r"recipe\.lr takes \[low, high\].*hydra\.sweeper\.space=") as caught:
        search_space(resolved("strategy=kd"), {"recipe.lr": bounds})
    assert "\n" not in str(caught.value)
