"""Knowledge distillation experiments: teacher, student, strategy, and an honest number."""

from importlib import import_module
from typing import Any

__version__ = "1.0.0"
PLACES = {  # where the public names are defined
    "Distillation": "distillab.training.module",
    "Term": "distillab.strategies.base",
    "load_student": "distillab.export.safetensors",
}
__all__ = list(PLACES)


def __getattr__(name: str) -> Any:
    if name in PLACES:  # imported when asked for: they bring torch and lightning, which take seconds
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module 'distillab' has no attribute '{name}'")
