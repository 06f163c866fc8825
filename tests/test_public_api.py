"""The public API is what tests/public_api.txt and docs/api.md say, and says what the code does."""

import inspect
import re
from pathlib import Path
from pydoc import locate

import distillab
from distillab import functional

LIST = Path(__file__).with_name("public_api.txt")
PAGE = Path(__file__).parents[1] / "docs" / "api.md"
NAMED = re.findall(r"(?m)^\| `(distillab\.[\w.]+)` \|", PAGE.read_text(encoding="utf-8"))


def signature(name):
    """A name with its arguments and defaults; annotations may be made more exact."""
    inner = inspect.signature(locate(name)).parameters.values()
    return f"{name}{inspect.Signature([one.replace(annotation=one.empty) for one in inner])}"


def methods(name):
    kind = locate(name)
    own = [key for key, value in vars(kind).items() if inspect.isfunction(value) and not key.startswith("_")]
    return [f"{name}.{key}" for key in sorted(own)]


def current():
    names = [name for name in NAMED if name != "distillab.functional"]
    names += [f"distillab.functional.{name}" for name in functional.__all__]
    members = [one for name in names if inspect.isclass(locate(name)) for one in methods(name)]
    return sorted(map(signature, names + members))


def test_signatures_are_those_of_the_list():
    assert LIST.read_text(encoding="utf-8").splitlines() == current(), (
        "the public API changed: say so in CHANGELOG.md, then run python tests/test_public_api.py"
    )


def test_the_package_gives_what_the_page_names():
    assert {f"distillab.{name}" for name in distillab.__all__} == {name for name in NAMED if name.count(".") == 1} - {
        "distillab.functional"
    }
    assert all(locate(name) is not None for name in NAMED)
    assert len(NAMED) > 10


def test_one_version_everywhere():
    root = Path(__file__).parents[1]
    (cited,) = re.findall(r"(?m)^version: (\S+)$", (root / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.findall(r"(?m)^## (\S+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"))[0]
    assert cited == newest == distillab.__version__


if __name__ == "__main__":
    LIST.write_text("\n".join(current()) + "\n", encoding="utf-8")
