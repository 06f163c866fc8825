"""The folder of a run, and its result there."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.commands.invocation import LISTS
from distillab.core.files import file_hash
from distillab.core.run_identity import config_hash

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig
    from distillab.core.result import Result

RUNS = "paths.runs=…"


def home(config: "RunConfig") -> Path:
    """Where the run of a config lies: `runs/<name>/<config hash>/`."""
    return Path(config.paths.runs) / config.name / config_hash(_with_contents(config.plain))


def finished(directory: Path) -> "Result | None":
    """The result of a run that has ended there, or None."""
    from distillab.core.result_reader import read  # pydantic takes its time

    return read(directory / "result.json")[0]


def _with_contents(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the hashes of its checkpoint files in place of their paths."""

    def seen(network: Mapping[str, Any]) -> Mapping[str, Any]:
        path = network.get("checkpoint")
        return {**network, "checkpoint": file_hash(path)} if path and Path(path).is_file() else network

    scheme = config["scheme"]
    named = {key: [seen(network) for network in scheme[key]] for key in LISTS if scheme.get(key)}
    roles = {role: seen(config[role]) for role in ("student", "teacher")}
    return {**config, **roles, "scheme": scheme | named}
