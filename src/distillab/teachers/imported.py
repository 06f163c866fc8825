"""A teacher that was scored elsewhere: its distributions of the training text, replayed from a token cache."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from distillab.core.errors import UserError
from distillab.data.batch import AS_STORED, Batch
from distillab.models.feature_info import FeatureInfo
from distillab.models.logit_rows import dense
from distillab.teachers.base import TeacherSource
from distillab.teachers.cache import TeacherCache
from distillab.teachers.token_layout import TokenLayout

SERVED = "docs/served_teachers.md"


def imported_cache(
    root: Path, teacher: str, data: str, layout: TokenLayout, *, samples: int, limit: float
) -> TeacherCache:
    """The cache that holds the scores of a teacher, by what it is called, for data of a fingerprint.

    What a divergence makes of the tail is no part of its key: the same scores serve every `cache.tail`.
    """
    stored = replace(layout, convention="bucket")
    return TeacherCache(root, {"imported": teacher, "data": data}, stored, samples=samples, limit=limit, strong={})


class ImportedTeacher(TeacherSource):
    """Gives what the cache holds of each block of `ids` (M, L), the training text; no network runs.

    A batch that is not of this text (`AS_STORED`: one that a check makes up) has every token equally likely.
    """

    def __init__(self, name: str, cache: TeacherCache, layout: TokenLayout, ids: Tensor) -> None:
        super().__init__()
        self.info = FeatureInfo(name, (), None, layout.classes, None, positions=layout.positions)
        # In a list nothing of it is a submodule or copied to a device.
        self.cache, self.layout, self.ids = cache, layout, [ids]

    def __deepcopy__(self, memo: dict[int, Any]) -> "ImportedTeacher":
        """One more reader of the same files, of which nothing is copied."""
        return type(self)(self.info.name, self.cache, self.layout, self.ids[0])

    @torch.no_grad()
    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The logits for each view. Raises UserError where a block of a fit is another than was scored."""
        (inputs,) = batch.inputs
        given, index = inputs["input_ids"], torch.from_numpy(batch.places)
        known, made_up = self.ids[0], batch.view_number == AS_STORED
        ours = bool(((index >= 0) & (index < len(known))).all()) and given.shape[1] == known.shape[1]
        if made_up or given.device.type == "cpu":  # a GPU would wait for it in every step
            ours = ours and torch.equal(given.cpu(), known[index])
        if made_up and not ours:
            return [SimpleNamespace(logits=torch.zeros(*given.shape, self.layout.classes, device=given.device))]
        if not ours:
            raise UserError(
                f"a batch holds other text than {self.info.name} has scored: fit with the data of the import ({SERVED})"
            )
        found = self.layout.decode(self.cache.view(0).read(batch.places), given.device)
        if made_up:  # as a network would give it
            return [SimpleNamespace(logits=dense(found.logits))]
        self.replayed += len(index)
        return [found]

    @property
    def cache_record(self) -> dict[str, Any]:
        """Samples `read`, and none computed; bytes of a sample, the cache's key."""
        size = self.layout.record.itemsize
        return {"read": self.replayed, "computed": 0, "bytes_per_sample": size, "key": self.cache.key}
