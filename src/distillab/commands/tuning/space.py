"""What tuning varies: learning rate, weight decay and each method's weights and temperatures, read from its config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

AROUND = 10.0  # from a tenth of the default to ten times it
TEMPERATURES = (1.0, 20.0)


@dataclass(frozen=True)
class Number:
    """A searched number: what the config says, the least and the most, and whether its logarithm is searched."""

    default: float
    low: float
    high: float
    log: bool = True

    @property
    def start(self) -> float:
        """What the first trial takes: the default, or the bound that is nearest to it."""
        return min(max(self.default, self.low), self.high)

    def distribution(self) -> "BaseDistribution":
        """The same for optuna; whole numbers stay whole where default and bounds are."""
        from optuna.distributions import FloatDistribution, IntDistribution

        whole = all(isinstance(value, int) for value in (self.default, self.low, self.high))
        return (IntDistribution if whole else FloatDistribution)(self.low, self.high, log=self.log)


def search_space(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Number]:
    """The numbers that the trials of one method vary, by dotted key. Raises UserError for bounds that are none.

    They are `recipe.lr`, `recipe.weight_decay`, and of every term its weight and temperatures. The first term's weight
    (that of cross-entropy, as a rule) is the unit: scaling all weights is the learning rate's affair. A number that is 0
    is switched off and stays so. `changes`: dotted key → [low, high], [low, high, log] or null; a key that the config
    lacks is another method's.
    """
    entries = [number for key in _searched(config) if (number := _number(config, key))]
    found = {key: _default_range(key, value) for key, value in entries if value > 0}
    for changed, bounds in changes.items():
        key, value = _number(config, changed) or (None, None)
        if key is not None and bounds is None:
            found.pop(key, None)
        elif key is not None:
            found[key] = _bounded(changed, value, bounds)
    return found


def word(key: str, value: float) -> str:
    """A number as an override, with four significant digits."""
    return f"{key}={value}" if isinstance(value, int) else f"{key}={value:.4g}"


def _searched(config: Mapping[str, Any]) -> Iterator[str]:
    yield from ("recipe.lr", "recipe.weight_decay")
    terms = [(name, term) for name, term in (config.get("strategy") or {}).items() if isinstance(term, Mapping)]
    for place, (name, term) in enumerate(terms):
        yield from (f"strategy.{name}.{key}" for key in term if (key == "weight" and place) or _is_temperature(key))


def _is_temperature(key: str) -> bool:
    return key == "temperature" or key.endswith("_temperature")


def _number(config: Mapping[str, Any], key: str) -> tuple[str, float] | None:
    """The number at a dotted key and where it stands, if there is one; of a schedule its `value`."""
    value = reduce(lambda node, part: node.get(part) if isinstance(node, Mapping) else None, key.split("."), config)
    if isinstance(value, Mapping) and "value" in value:
        key, value = f"{key}.value", value["value"]
    return (key, value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _default_range(key: str, default: float) -> Number:
    low, high = TEMPERATURES
    if not (_is_temperature(key.removesuffix(".value").rpartition(".")[2]) and low <= default <= high):
        low, high = default / AROUND, default * AROUND
    return Number(float(default), low, high)


def _bounded(key: str, default: float, bounds: Any) -> Number:
    numbers = list(bounds) if isinstance(bounds, list | tuple) else []
    if log := numbers[2:] == ["log"]:
        del numbers[2:]
    ordered = len(numbers) == 2 and all(map(_is_number, numbers)) and numbers[0] < numbers[1]
    if not ordered or (log and numbers[0] <= 0):
        allowed = "[low, high] or [low, high, log] with low < high (above 0 for log) or null"
        example = f"hydra.sweeper.space={{{key}:[0.01,0.5,log]}}"
        raise UserError(f"hydra.sweeper.space: {key} takes {allowed}, got {bounds}: {example}")
    return Number(default, *numbers, log)
