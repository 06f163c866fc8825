"""The losses as pure functions, for people who want only those."""

from distillab.strategies.attention import attention_transfer
from distillab.strategies.hint import hint
from distillab.strategies.kd import kd

__all__ = ["attention_transfer", "hint", "kd"]
