"""Writes into each loss the slips that its test file lists, and shows that a check fails: `python tests/mutations.py`.

A test file lists `MUTATIONS` of functions, which its `CHECKS` must catch on its `CASES`, and may list `TERM_MUTATIONS` of
classes, which the test in its `TERMS` must catch. Only in memory. Writes docs/mutations.md; exits 1 if a slip survives, is not to be found exactly once, or if a function
has fewer than two.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch.autograd.gradcheck import GradcheckError

from distillab import functional

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
    tests: ModuleType

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
        checked = getattr(self.tests, "COMPOSED", {}).get(self.function, mutated)
        term = getattr(self.tests, "TERMS", {}).get(self.function)
        places = (self.tests, self.module) if term else (functional,)
        for place in places:
            setattr(place, self.function, mutated)
        try:
            if term:
                return ["value by hand"] if disagrees(term) else []
            cases = self.tests.CASES[self.function]
            return [
                CHECKED[check.__name__]
                for check in self.tests.CHECKS
                if any(disagrees(check, checked, case) for case in cases)
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


def mutations():
    """Those of all test files, by the functions' names."""
    paths = [*sorted((HERE / "strategies").glob("test_losses*.py")), HERE / "training" / "test_optim.py"]
    files = [importlib.import_module(path.stem) for path in paths]
    lists = ("MUTATIONS", "TERM_MUTATIONS")
    found = [Mutation(*slip, file) for file in files for name in lists for slip in getattr(file, name, ())]
    return sorted(found, key=lambda mutation: mutation.function)


def misplaced(found):
    """One line for each slip whose text is not in the source exactly once, and for each function with too few."""
    lines = [
        f'{m.function}: "{m.old}" is {m.found} times in {Path(m.module.__file__).name} ({m.words})'
        for m in found
        if m.found != 1
    ]
    counts = Counter(m.function for m in found)
    few = [name for name in functional.__all__ if counts[name] < FEWEST]
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
        "Made by `python tests/mutations.py`.",
        "",
        "| function or class | slip | caught by |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"


def main():
    found = mutations()
    caught = [mutation.caught_by() for mutation in found]
    PAGE.write_text(page(found, caught))
    survived = [f"{m.function}: no check disagrees: {m.words}" for m, by in zip(found, caught, strict=True) if not by]
    problems = misplaced(found) + survived
    print("\n".join([*problems, f"{len(found)} mutations, {len(survived)} survived"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
