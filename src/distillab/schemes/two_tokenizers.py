"""Refuses what cannot learn from a teacher that reads other tokens than the student."""

from typing import TYPE_CHECKING

from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.data.module import DataModule
from distillab.strategies.strategy import Strategy

if TYPE_CHECKING:
    from distillab.data.text.datamodule import TextInfo


def check_tokenizers(config: RunConfig, data: DataModule, strategy: Strategy, scheme: str) -> None:
    """Raise UserError where teacher and student have two tokenizers, and the run compares token with token."""
    taught = data.teacher_side
    if taught is data or not strategy.needs_teacher:
        return
    told = _told(data.info, taught.info)
    place = config.teacher.builder.get("path") or "…"
    if scheme != "offline":
        raise UserError(
            f"{told}, and scheme={scheme} takes one for all its networks: scheme=offline, or data.teacher_tokenizer=null"
        )
    if data.writing is not None:
        raise UserError(f"{told}: the teacher cannot read what the student writes: data.on_policy=0")
    for name, term in strategy.terms.items():
        if term.alignment is None and any("teacher." in need for need in term.needs):
            raise UserError(
                f"{told}, and strategy.{name} compares token with token: strategy=uld compares sorted probabilities (the same "
                f"command with strategy=uld); or learn from text that the teacher writes: python scripts/generate.py "
                f"teacher={place} source=bos rows=1000 out=written, then data=synthetic data.root=written strategy=none; or "
                f"one tokenizer for both: data.tokenizer={place}"
            )


def _told(student: "TextInfo", teacher: "TextInfo") -> str:
    return f"student and teacher have two tokenizers ({student.vocabulary:,} and {teacher.vocabulary:,} tokens)"
