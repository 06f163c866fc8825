"""The result of adapting one language model to a domain: `adapt.json`."""

from typing import Any

from distillab.core.result_parts import Number, Part


class OnText(Part):
    """Bits per byte on one test text, and against the base model: the change (less is better) with its 95 % interval."""

    bits_per_byte: Number
    change: Number | None = None
    low: Number | None = None
    high: Number | None = None
    documents: int


class Adapted(Part):
    """One way to adapt, or the base model as it was."""

    name: str
    new: OnText
    old: OnText | None = None
    trained: int = 0  # parameters
    seconds: Number = 0.0
    epoch: int | None = None  # that was chosen
    folder: str  # that transformers loads
    adapter: str | None = None  # that peft loads on the base model
    reloaded: Number | None = None  # largest difference of a logit to what was trained: of the adapter read back,
    merged: Number | None = None  # and of the plain folder


class Adaptation(Part):
    """All ways on one domain, the base model first."""

    student: str
    data: str
    old: str | None = None
    anchor: Number | None = None
    seed: int
    blocks: int  # that were trained on
    command: str
    config: dict[str, Any]
    versions: dict[str, str | None]
    created: str
    ways: list[Adapted]
