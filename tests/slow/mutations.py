"""Writes docs/mutations.md: which check catches each slip. Exits 1 if a slip survives, is not to be found exactly once, or
if a function has fewer than two."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import mutations

from distillab import functional


def main():
    found = mutations.mutations()
    caught = [mutation.caught_by() for mutation in found]
    mutations.PAGE.write_text(mutations.page(found, caught))
    survived = [f"{m.function}: no check disagrees: {m.words}" for m, by in zip(found, caught, strict=True) if not by]
    problems = mutations.misplaced(found, functional.__all__) + survived
    print("\n".join([*problems, f"{len(found)} mutations, {len(survived)} survived"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
