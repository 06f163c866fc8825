"""The metadata of an exported file: what its network is, and what that expects of its inputs."""

import json
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Any, ClassVar, Self

from distillab.core.allowed import Count, CountOrNone, Range
from distillab.core.group import Group, group


@group
class About(Group):
    """What an exported file says beside its weights; all None for any other file."""

    PATH: ClassVar[str] = "metadata"
    name: str | None = None  # for tables
    model: dict[str, Any] = field(default_factory=dict)  # its config, without what only a run needs
    classes: list[str | int] | None = None  # in the order of the outputs
    mean: list[Annotated[float, Range()]] | None = None  # of its input's channels, in [0, 1]
    std: list[Annotated[float, Range(above=0)]] | None = None
    input_size: CountOrNone = None  # the side in pixels, where the images are resized
    input_shape: list[Count] | None = None  # (C, H, W) of the data's images
    shipped: dict[str, Any] | None = None  # of the model that a strategy ships in the student's place

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Self:
        """Out of a file's metadata; raises UserError for a wrong type, ValueError for text that is no JSON object."""
        content = json.loads(metadata.get("distillab", "{}"))
        if not isinstance(content, dict):
            raise ValueError("metadata must be a JSON object")
        known = {one.name for one in fields(cls)}
        return cls.of({key: value for key, value in content.items() if key in known})
