"""The formats in which a student of images is exported: their names, as a config has them, and the proof of each file."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from distillab.core.instantiate import did_you_mean
from distillab.core.result_parts import STEADY, Figures, Number, Part

FORMATS = ("onnx", "torch_export", "int8")  # beside safetensors, which is always written


def _formats(values: Any) -> Any:
    """The names of formats, each once."""
    if not isinstance(values, list):
        values = [] if values in (None, "") else [values]
    for name in values:
        if name not in FORMATS:
            close = did_you_mean(str(name), FORMATS)
            raise ValueError(f'{{path}} takes {", ".join(FORMATS)}, got "{name}"{close}')
    return list(dict.fromkeys(values))


def _hub_name(value: Any) -> Any:
    """The name of a repository on the Hugging Face Hub."""
    if value is not None and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(value), re.ASCII):
        raise ValueError(f"{{path}} names a repository on the hub, {{path}}=owner/name, or null; got {value}")
    return value


Formats = Annotated[list[str], BeforeValidator(_formats)]
HubName = Annotated[str | None, BeforeValidator(_hub_name)]


class ExportedFile(Part):
    """A file that holds the student in one format, and its proof on the whole test split.

    `difference` is the largest of a logit to the student that was measured, `same_answers` the share of samples with the same
    top-1. The latency is that of one sample, measured as a network's.
    """

    format: str
    file: str  # its name in the run's folder
    size_bytes: int
    sha256: str | None = None  # None in results of earlier versions
    runtime: str  # what ran it, with its version
    metrics: Figures
    difference: Number
    same_answers: Number
    latency_ms: Number | None = None
    latency_spread: Number | None = None
    threads: int | None = None

    @property
    def steady(self) -> bool:
        """Whether the latency can be relied on."""
        return self.latency_spread is None or self.latency_spread <= STEADY
