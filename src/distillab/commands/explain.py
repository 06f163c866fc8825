"""What a strategy is, from its YAML file and the docstrings of its terms: `distillab explain hint`."""

import inspect
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distillab.commands.composition import compose, conf_dir
from distillab.commands.words import meant
from distillab.core.allowed import spelled
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean, locate
from distillab.core.output import asks_for_help
from distillab.core.run_identity import without_folder
from distillab.core.task_numbers import FOR, TASKS


def asked_about(words: Sequence[str]) -> list[str]:
    """The strategies that a command line asks about: `explain kd hint`, or `strategy=[kd,hint] --help`."""
    words = without_folder(words)
    if words[:1] == ["explain"]:
        if not words[1:]:
            raise UserError("explain what? Name a strategy, e.g. distillab explain hint; docs/methods.md lists them")
        named = words[1:]
    else:
        named = [word for word in words if word.startswith("strategy=")] if asks_for_help(words) else []
    return [name for word in named for name in word.removeprefix("strategy=").strip("[]").split(",")]


def explain(name: str, folder: Path | None = None) -> str:
    """What it is and where from, and of each term what it does, reads and takes; UserError for an unknown name.

    It is one of the shipped strategies, or of those in the person's own `folder` of configs.
    """
    places = [conf_dir(), *([folder] if folder else [])]
    files = {path.stem: path for place in reversed(places) for path in sorted((place / "strategy").glob("*.yaml"))}
    allowed = sorted(files)
    if name not in allowed:
        close = did_you_mean(meant(name, allowed) or name, allowed)
        raise UserError(f'there is no strategy "{name}"{close} (allowed: {", ".join(allowed)})')
    text = files[name].read_text(encoding="utf-8")
    title = [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]
    file = OmegaConf.to_container(OmegaConf.create(text))
    serving = [f"task={task}" for task in file.get(TASKS, [])[:1]]
    config = OmegaConf.to_container(compose([f"strategy={name}", *serving], folder)["strategy"], resolve=True)
    phases = config.pop("phases", None)
    parts = ["\n".join([f"strategy={name}", *title]), *(_term(key, node) for key, node in config.items())]
    if tasks := file.get(TASKS):
        parts[0] += f"\nfor task={' or '.join(tasks)} alone"
    if phases:
        acting = [f"    strategy.phases.{place}: {_spelled(phase)}" for place, phase in enumerate(phases)]
        long = "below 1 epochs are a share of the recipe's, and extra ones come before these"
        parts.append("\n".join([f"phases, one after the other; {long}", *acting]))
    for task, terms in file.get(FOR, {}).items():
        own = [f"    strategy.{term}.{key}={_spelled(n)}" for term, ns in terms.items() for key, n in ns.items()]
        parts.append("\n".join([f"with task={task}", *own]))
    return "\n\n".join(parts)


def _term(name: str, node: Mapping[str, Any]) -> str:
    """One term: its docstring, that of its loss, what it reads, and its numbers as overrides."""
    path, term = f"strategy.{name}", locate(node["_target_"], f"strategy.{name}")
    module = inspect.getmodule(term)
    losses = [term.loss] if hasattr(term, "loss") else [getattr(module, one) for one in getattr(module, "__all__", ())]
    told = [text for each in (term, *losses) if (text := inspect.getdoc(each))]
    lines = [f"{path}: {node['_target_']}", *(line for text in told for line in text.splitlines() if line)]
    lines.append(f"Reads {', '.join(term.needs)}.")
    defaults = {
        key: one.default for key, one in inspect.signature(term).parameters.items() if one.kind != one.VAR_KEYWORD
    }
    for key, default in defaults.items():
        value = node.get(key, default)
        if value is not inspect.Parameter.empty:
            other = value == default or default is inspect.Parameter.empty
            lines.append(f"{path}.{key}={_spelled(value)}" + ("" if other else f" (by itself {_spelled(default)})"))
    return "\n    ".join(lines)


def _spelled(value: Any) -> str:
    """A value as the command line spells it, mappings too."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_spelled(one)}' for key, one in value.items())}}}"
    return spelled(value)
