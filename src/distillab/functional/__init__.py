"""The losses as pure functions, for people who want only those: every name in a method file's `__all__`."""

from importlib import import_module
from pkgutil import iter_modules

from distillab import strategies

_methods = [import_module(f"{strategies.__name__}.{module.name}") for module in iter_modules(strategies.__path__)]
_functions = {name: getattr(method, name) for method in _methods for name in getattr(method, "__all__", ())}
globals().update(_functions)
__all__ = sorted(_functions)
