"""The class or function that makes a network, checked before it is called."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, get_type_hints

from torch import nn

from distillab.core.errors import UserError
from distillab.core.instantiate import PACKAGES, locate

# Where the networks of `PACKAGES` are.
MODULES = ("distillab.models", "distillab.strategies", "torchvision.models", "timm.models", "transformers.models")


def is_teacher(role: str) -> bool:
    """Whether a network with this path in the config teaches: the teacher, or one of an ensemble."""
    return role == "teacher" or role.startswith("scheme.teachers.")


def builder(target: str | Callable[..., Any], path: str) -> Callable[..., nn.Module]:
    """The class of a network, or the function that returns one, that the `_target_` at `path` names.

    Raises UserError, before anything of it is called, for a class that is no torch.nn.Module, and for a function that
    says that it returns something else.
    """
    found = locate(target, path)
    made = _made(found)
    if made is not None and not issubclass(made, nn.Module):
        kind = "is no torch.nn.Module" if inspect.isclass(found) else f"returns {made.__name__}, not a torch.nn.Module"
        raise UserError(f"{path}._target_: {target} {kind}; name a class or a function that makes a network")
    return found


def builder_of_file(target: Any, file: str, mend: str) -> Callable[..., nn.Module]:
    """The builder that a file names; raises UserError, which says `mend`, for what is not of `MODULES`.

    A file comes from others, and could name any function of this machine.
    """
    if isinstance(target, str) and target.partition(".")[0] in PACKAGES:
        with suppress(UserError):
            found = builder(target, "student")
            made, module = _made(found), f"{getattr(found, '__module__', '')}."
            plain = inspect.isclass(found) or inspect.isfunction(found)  # a method may load whatever it is told to
            if plain and made is not None and module.startswith(tuple(f"{one}." for one in MODULES)):
                return found
    kinds = ", ".join(PACKAGES)
    raise UserError(
        f"{file} names {target}, which is not called: only networks of {kinds} are; if you trust it, {mend}"
    )


def arguments_in(module: Any) -> list[str]:
    """The names of the arguments of all classes and functions that a module defines, in alphabetical order.

    A class may hand its arguments on to those that it is made from, wherever in the package they are.
    """
    own = [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]
    made = [one for one in own if inspect.isclass(one) or inspect.isfunction(one)]
    bases = {base for one in made if inspect.isclass(one) for base in inspect.getmro(one)}
    made += [base for base in bases if base.__module__.partition(".")[0] == module.__name__.partition(".")[0]]
    return sorted({name for one in made for name in inspect.signature(one).parameters})


def _made(found: Any) -> type | None:
    """The class of what a class or function makes; None where a function does not say."""
    while isinstance(found, partial):
        found = found.func
    if inspect.isclass(found):
        return found
    with suppress(Exception):  # annotations may name what is not there
        made = get_type_hints(found).get("return")
        return made if inspect.isclass(made) else None
    return None
