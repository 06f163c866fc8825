"""Writes into each loss the slips that its test file lists, and shows that a check fails: `python tests/slow/mutations.py`.

A tester lists `mutations` of functions, which the checks must catch on its `cases`, and may list `hand_mutations` of
classes, which the test in its `by_hand` must catch. Only in memory.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torch.autograd.gradcheck import GradcheckError

from distillab import functional
from helpers.method_checks import CHECKS

if TYPE_CHECKING:
    from helpers.method_tester import MethodTester

HERE = Path(__file__).parents[1]
PAGE = HERE.parent / "docs" / "mutations.md"
FEWEST = 2  # mutations of a function
CHECKED = {
    "check_value": "value",
    "check_gradient": "gradient",
    "check_widths": "half precision and extremes",
    "check_small_batches": "small batches",
}


@dataclass(frozen=True)
class Mutation:
    """One slip: `old` in the source of the module of the function (or class) becomes `new`."""

    function: str
    old: str
    new: str
    words: str
    tester: type[MethodTester]

    @property
    def tests(self):
        return sys.modules[self.tester.__module__]

    @property
    def original(self):
        return getattr(functional if self.function in functional.__all__ else self.tests, self.function)

    @property
    def module(self):
        return sys.modules[self.original.__module__]

    @property
    def source(self):
        return Path(self.module.__file__).read_text()

    @property
    def found(self):
        return self.source.count(self.old)

    def written(self):
        """The function or class as the slip makes it."""
        mutant = ModuleType(self.module.__name__)
        exec(compile(self.source.replace(self.old, self.new), self.module.__file__, "exec"), mutant.__dict__)
        return getattr(mutant, self.function)

    def caught_by(self):
        """The checks that disagree, in words; a slip that cannot even run proves nothing of them."""
        original, mutated = self.original, self.written()
        checked = self.tester.composed.get(self.function, mutated)
        term = self.tester.by_hand.get(self.function)
        places = (self.tests, self.module) if term else (functional,)
        for place in places:
            setattr(place, self.function, mutated)
        try:
            if term:
                return ["value by hand"] if disagrees(term) else []
            cases = self.tester.cases[self.function]
            return [
                CHECKED[check.__name__] for check in CHECKS if any(disagrees(check, checked, case) for case in cases)
            ]
        finally:
            for place in places:
                setattr(place, self.function, original)


def disagrees(check, *arguments):
    """Whether the check fails by what it compares."""
    try:
        check(*arguments)
    except (AssertionError, GradcheckError):
        return True
    except Exception:
        return False
    return False


def mutations_of(tester: type[MethodTester]) -> list[Mutation]:
    """Those that a tester lists."""
    return [Mutation(*slip, tester) for slip in (*tester.mutations, *tester.hand_mutations)]


def testers() -> list[type[MethodTester]]:
    """Those of all test files: of every method, and of DOT."""
    from helpers.method_tester import MethodTester

    paths = [*sorted((HERE / "strategies").rglob("test_*.py")), HERE / "training" / "test_optim.py"]
    found = [value for path in paths for value in vars(_loaded(path)).values()]
    found = [value for value in found if isinstance(value, type) and issubclass(value, MethodTester)]
    return [tester for tester in dict.fromkeys(found) if not tester.__module__.startswith("helpers.")]


def _loaded(path: Path) -> ModuleType:
    """A test file, as pytest imports it."""
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[path.stem])
    return sys.modules[path.stem]


def mutations() -> list[Mutation]:
    """Those of all testers, by the functions' names."""
    found = [mutation for tester in testers() for mutation in mutations_of(tester)]
    return sorted(found, key=lambda mutation: mutation.function)


def misplaced(found: list[Mutation], functions: Iterable[str]) -> list[str]:
    """One line for each slip whose text is not in the source exactly once, and for each function with too few."""
    lines = [
        f'{m.function}: "{m.old}" is {m.found} times in {Path(m.module.__file__).name} ({m.words})'
        for m in found
        if m.found != 1
    ]
    counts = Counter(m.function for m in found)
    few = [name for name in functions if counts[name] < FEWEST]
    return lines + [f"{name} has {counts[name]} mutations, and should have {FEWEST}" for name in few]


def page(found, caught):
    """The table, in Markdown."""
    rows = [
        f"| `{m.function}` | {m.words.replace('|', chr(92) + '|')} | {', '.join(by) or '**nothing**'} |"
        for m, by in zip(found, caught, strict=True)
    ]
    head = [
        "# Mutations",
        "",
        "Every loss has a slip or several written into it, one at a time, and so have the terms that compose losses; each "
        "must make a check of its tests fail. "
        "Made by `python tests/slow/mutations.py`.",
        "",
        "| function or class | slip | caught by |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"
