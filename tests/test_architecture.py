"""The house as docs/architecture.md draws it: few rooms, one direction. `pytest -s` prints the figures."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import distillab

PACKAGE = Path(distillab.__file__).parent
FLOORS = [  # an import goes down, never sideways and never up
    {"core"},
    {"data", "models"},
    {"strategies", "teachers", "evaluation", "export"},
    {"tasks", "reporting", "functional"},
    {"training"},
    {"schemes"},
    {"commands"},
    {"distillab"},  # the package itself: its public names, imported when asked for
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 16, 8, 60


def room_of(path):
    """The folder at the top of the package in which a file lies; what `python -m` runs belongs to the package itself."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 and path.name != "__main__.py" else "distillab"


def imported(path):
    """The names of distillab's modules that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "distillab":
            yield from (f"distillab.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distillab."):
            assert node.level == 0, f"{path} imports by a relative name"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("distillab."))


def arrows():
    """(room, imported room) → the files behind it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in imported(path):
            target = name.split(".")[1]
            if not (PACKAGE / target).is_dir() or target == room_of(path):
                continue
            found.setdefault((room_of(path), target), set()).add(str(path.relative_to(PACKAGE)))
    return found


@pytest.fixture(scope="module")
def house():
    return arrows()


def test_every_file_lies_in_a_room():
    # The package itself, and what `python -m` runs.
    entries = ("__init__.py", "__main__.py", "cache.py", "demo.py", "doctor.py", "predict.py")
    loose = [path.name for path in PACKAGE.glob("*.py") if path.name not in entries]
    assert not loose
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "conf")}
    assert rooms == FLOOR.keys() - {"distillab"} and len(rooms) <= MOST_ROOMS


def test_imports_go_down(house):
    upward = {pair: files for pair, files in house.items() if FLOOR[pair[1]] >= FLOOR[pair[0]]}
    assert not upward


def test_there_is_no_circle_and_few_arrows_and_floors(house):
    below = {room: {target for source, target in house if source == room} for room in FLOOR}
    floors = {}
    for room in TopologicalSorter(below).static_order():  # raises CycleError
        floors[room] = 1 + max((floors[target] for target in below[room]), default=0)
    rooms = len(FLOOR) - 1
    print(f"{rooms} rooms, {max(floors.values())} floors, {len(house)} arrows")
    assert max(floors.values()) <= MOST_FLOORS and len(house) <= MOST_ARROWS


def test_modules_of_one_room_form_no_circle():
    below = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("distillab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        below[name] = set(imported_at_the_top(path))
    list(TopologicalSorter(below).static_order())  # raises CycleError


def imported_at_the_top(path):
    """What a file imports as soon as it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distillab."):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            inside = [m for m in modules if (PACKAGE / Path(*m.split(".")[1:]).with_suffix(".py")).is_file()]
            yield from inside or [node.module]
