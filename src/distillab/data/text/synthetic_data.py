"""Text that a teacher wrote, alone or mixed with real text, and judged on real text."""

from collections.abc import Mapping
from typing import Any

from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.data.text.datamodule import TextData
from distillab.data.text.documents import Document
from distillab.data.text.held_out import without_overlap
from distillab.data.text.synthetic.kept import kept_texts


class SyntheticText(TextData):
    """The kept texts below a `root` of scripts/generate.py as training text; real text of `path` or `dataset` is held out.

    `real` is the share of real blocks among the training blocks: 0 leaves them out, 1 the teacher's. Equal `samples` are
    equal tokens. Raises UserError as `kept_texts`, too.
    """

    def __init__(self, root: str, *, real: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        self.root = root
        self.real = Range(0, high=1).check(real, "data.real", 0.5)

    def _training(self, splits: Mapping[str, list[Document]]) -> dict[str, list[Document]]:
        if self.real == 1:
            return {"real": splits["train"]}
        try:
            written = [Document(text, "synthetic") for text in kept_texts(self.root)]
        except UserError as error:
            raise UserError(f"data.root: {error}") from error
        written = without_overlap(written, splits, self.name, share=self.overlap)
        return {"synthetic": written} if self.real == 0 else {"real": splits["train"], "synthetic": written}

    def _taken(self, counts: Mapping[str, int]) -> dict[str, int]:
        """As many blocks of both as there are in this proportion."""
        if len(counts) == 1:
            return dict(counts)
        shares = {"real": self.real, "synthetic": 1 - self.real}
        total = min(counts[name] / share for name, share in shares.items())
        return {name: max(1, int(total * share)) for name, share in shares.items()}
