"""The numbers that a strategy file has for one task, and the tasks that it serves."""

from collections.abc import Mapping
from typing import Any

from distillab.core.errors import UserError

FOR, TASKS = "for", "tasks"  # keys of a strategy file beside its terms and phases


def serves(config: Mapping[str, Any], task: str | None) -> bool:
    """Whether a strategy file serves a task; None is any."""
    return task is None or config.get(TASKS) is None or task in config[TASKS]


def for_task(config: Mapping[str, Any], task: str | None, name: str = "the strategy") -> dict[str, Any]:
    """The terms and phases of a strategy file, with its numbers for a task.

    A file may name the only `tasks` that it serves, and have numbers `for` a task: {task: {term: {key: value}}}. A task of
    None is unknown: the file's own numbers. UserError for a task that a file, by its `name`, does not serve.
    """
    own = (config.get(FOR) or {}).get(task) or {}
    if not serves(config, task):
        raise UserError(
            f"strategy={name} is for task={' or '.join(config[TASKS])}, not for {task}; choose e.g. strategy=kd"
        )
    nodes = {key: node for key, node in config.items() if key not in (FOR, TASKS)}
    for key, numbers in own.items():
        nodes[key] = {**nodes.get(key, {}), **numbers} if isinstance(numbers, Mapping) else numbers
    return nodes
