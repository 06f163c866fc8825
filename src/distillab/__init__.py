"""Knowledge distillation experiments: teacher, student, strategy, and an honest number."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Distillation"]


def __getattr__(name: str) -> Any:
    if name == "Distillation":  # imported when asked for: it brings torch and lightning, which take seconds
        from distillab.training.module import Distillation

        return Distillation
    raise AttributeError(f"module 'distillab' has no attribute '{name}'")
