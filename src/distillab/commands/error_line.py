"""What reaches a command as an error, in one line: what was wrong, what is allowed, and which override mends it."""

import re
import shlex
from collections.abc import Sequence

from hydra.errors import (
    ConfigCompositionException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from distillab.commands.composition import ROLES, choices, conf_dir, missing_choice
from distillab.commands.words import meant, places, quoted
from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean, unknown_key

TRACEBACK = "HYDRA_FULL_ERROR"


def one_line(error: BaseException) -> str:
    """What was wrong and what is allowed, for any error that reaches the command."""
    words = " ".join(str(error).split())
    match error:
        case UserError():
            return str(error)
        case InstantiationException() if isinstance(error.__cause__, UserError):
            return str(error.__cause__)  # of a launcher, which Hydra makes
        case MissingConfigException() if error.missing_cfg_file:
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            if group == "hydra/launcher":
                return f'{group}={name} is not installed: pip install "distillab[sweeps]", or choose launcher=basic'
            other = meant(name, error.options or choices(group))
            return f"{missing_choice(error, group, name)}: {group}={other or '…'}"
        case OverrideParseException():
            return f'cannot read "{error.override}": {_spelling(error.override)}'
        case ConfigCompositionException() if found := re.match(r"Ambiguous value for argument '(\S+?)=(\S+?)'", words):
            sweep, one = f"-m {found[1]}={found[2]} makes a run of each", f"'{found[1]}=[{found[2]}]' is one list"
            return f"{found[1]}={found[2]} has several values: {sweep}, {one}"
        case ConfigCompositionException():
            return _unknown(error) or words
        case OSError() | OmegaConfBaseException() | YAMLError():
            return words
    return f"{type(error).__name__}: {words} ({TRACEBACK}=1 shows where)"


def _spelling(override: str) -> str:
    """How to write what Hydra could not read."""
    key, sign, value = override.partition("=")
    if sign and value:
        return f"if the value is one text, write {shlex.quote(f'{key}={quoted(value)}')}"
    groups = [group for group in ("strategy", "student", "data", "recipe", "scheme") if override in choices(group)]
    other = f"strategy={name}" if (name := meant(override, choices("strategy"))) else "strategy=hint or recipe.epochs=3"
    return f"write key=value, e.g. {' or '.join(f'{group}={override}' for group in groups) or other}"


def _unknown(error: ConfigCompositionException) -> str | None:
    """The line about an override of a key or a group that does not exist; None for any other error."""
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        node, full_key = cause.parent_node, str(cause.full_key)
        parent, _, key = full_key.rpartition(".")
        allowed = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if allowed and key not in allowed:
            whole = OmegaConf.to_container(node._get_root(), resolve=False)
            own = {name: value for name, value in whole.items() if name != "hydra"}
            return unknown_key(parent, key, allowed) + _elsewhere(places(full_key, own), str(error))
    if "No match in the defaults list" in str(error):
        key = str(error).split("'")[1]
        groups = sorted({*ROLES, *(path.name for path in conf_dir().iterdir() if path.is_dir())} - {"model"})
        said = f'there is no "{key}"{did_you_mean(key, groups)} (groups: {", ".join(groups)})'
        return said + _elsewhere(places(key, {}), str(error))
    return None


def _elsewhere(found: Sequence[str], error: str) -> str:
    """The overrides of the keys that may be meant, with the value that was given."""
    given = re.search(r"use \+\S+?=(\S+)", error)
    value = given[1] if given else "…"
    return f"; write {' or '.join(f'{path}={value}' for path in found)}" if found else ""
