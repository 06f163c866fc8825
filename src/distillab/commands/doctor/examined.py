"""What the doctor examines, and what a check says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from distillab.core.configuration import RunConfig
from distillab.data.batch import AS_STORED, IGNORED, Batch
from distillab.data.text.blocks import Blocks
from distillab.data.text.datamodule import TextData, evenly
from distillab.data.text.tokenizer import ends
from distillab.models.causal_lm import CausalLM
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.logit_rows import dense
from distillab.models.model import placed
from distillab.strategies.base import Term
from distillab.training.module import Distillation

LONGEST = 128  # positions of a block that are looked at
AT_ONCE = 2**25  # logits of a batch
MOST = 4  # blocks of a batch
MANY = 4096  # blocks whose labels are looked at


class Verdict(NamedTuple):
    """What a check says; what is refused stops a run."""

    level: Literal["fine", "warning", "refused"]
    text: str


def fine(text: str) -> Verdict:
    """All is well."""
    return Verdict("fine", text)


def warning(text: str) -> Verdict:
    """The run can go on, and its result may be worth little."""
    return Verdict("warning", text)


def refused(text: str) -> Verdict:
    """The run would be wrong; the text says what to change."""
    return Verdict("refused", text)


@dataclass(frozen=True)
class Examined:
    """A language run before its first step.

    `module` is what it trains, None for the student alone; `teacher` its fixed teacher, which is `ready_made` if it was
    not trained on this text.
    """

    config: RunConfig
    data: TextData
    student: CausalLM
    teacher: CausalLM | None = None
    module: Distillation | None = None
    ready_made: bool = False

    @property
    def models(self) -> dict[str, CausalLM]:
        """The student and the teacher, if there is one, by role."""
        return {"student": self.student} | ({"teacher": self.teacher} if self.teacher is not None else {})

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return placed(self.student)[0]

    @cached_property
    def ends(self) -> list[int]:
        """The ids that may end a text: the tokenizer's, and those that the teacher names."""
        return ends(self.data.info.tokenizer, self.teacher_ends if self.one_tokenizer else None)

    @property
    def one_tokenizer(self) -> bool:
        """Whether student and teacher read the same tokens."""
        return self.data.teacher_side is self.data

    def read_by(self, role: str) -> Self:
        """The same with the text as a role's model reads it."""
        return self if role == "student" or self.one_tokenizer else replace(self, data=self.data.teacher_side)

    @property
    def teacher_ends(self) -> list[int]:
        """The ids that end a text for the teacher, by its generation config or its config; [] where it names none."""
        for name in ("generation_config", "config"):
            found = getattr(getattr(self.teacher and self.teacher.net, name, None), "eos_token_id", None)
            if found is not None:
                return [found] if isinstance(found, int) else list(found)
        return []

    @cached_property
    def blocks(self) -> Blocks:
        """A few training blocks."""
        return self._few("train")

    @cached_property
    def held_out(self) -> Blocks:
        """A few validation blocks, or training blocks where there are none."""
        return self._few("validation" if self.data.sizes["validation"] else "train")

    def text(self, split: str = "train") -> Blocks:
        """Many blocks of a split, `all` are those that data.samples chose from."""
        rows = torch.from_numpy(self.data.rows[split])
        return self.data.collection.blocks.chosen(
            rows[torch.from_numpy(evenly(len(rows), MANY))] if len(rows) else rows
        )

    def _few(self, split: str) -> Blocks:
        info, source = self.data.info, self.data.evaluation_dataloader(split).source
        length = min(info.length, LONGEST)
        count = max(2, min(MOST, AT_ONCE // (length * info.vocabulary)))
        few = source.chosen(torch.from_numpy(evenly(len(source), count)))
        return few.cut(length)

    def batch(self, blocks: Blocks) -> Batch:
        """Blocks as a step gets them; the cache of teacher outputs does not know them."""
        return self.placed(blocks.batch(torch.arange(len(blocks)), AS_STORED))

    def placed(self, batch: Batch) -> Batch:
        """A batch on the device of the models."""
        return self.data.on_after_batch_transfer(batch.to(self.device), 0)

    @torch.no_grad()
    def rows(self, model: CausalLM, blocks: Blocks) -> tuple[Tensor, Tensor]:
        """A model's logits (R, V) for the labels (R,) of blocks."""
        batch = self.batch(blocks)
        kept = batch.labels != IGNORED
        return dense(model.outputs(**batch.inputs[0])[kept]), batch.labels[kept]

    def nats(self, model: CausalLM, blocks: Blocks) -> float:
        """The mean loss of a label."""
        logits, labels = self.rows(model, blocks)
        return torch.nn.functional.cross_entropy(logits, labels).item()

    @property
    def rowwise(self) -> tuple[str, ...]:
        """The names of the terms that are means over tokens' logits."""
        terms = self.module.strategy.terms.items()
        averaged = [(name, term) for name, term in terms if term.rowwise and type(term).forward is Term.forward]
        return tuple(name for name, term in averaged if not term.of_features)


@contextmanager
def logits_alone(module: Distillation) -> Iterator[None]:
    """Let a module's networks give logits and nothing else, as maps would fix the length of a block."""
    kept, module.extractors = module.extractors, [FeatureExtractor(module.student, {"logits"})]
    if module.teacher is not None:
        module.teacher.request({"logits"})
    try:
        yield
    finally:
        module.extractors = kept
        for extractor in kept:
            extractor.caught.clear()
        if module.teacher is not None:
            module.teacher.request(module.strategy.needs("teacher"))


class Accumulating:
    """Stands for a trainer with so many batches to a step."""

    def __init__(self, batches: int) -> None:
        self.accumulate_grad_batches = batches


def gradient(module: Distillation, batches: Sequence[Batch], names: Sequence[str]) -> Tensor:
    """The student's gradient (p,) of an optimiser step over batches, by these terms."""
    parameters = [each for each in module.student.parameters() if each.requires_grad]
    whole = [torch.zeros_like(each) for each in parameters]
    trainer = Accumulating(len(batches))
    module.trainer = trainer
    try:
        for batch in batches:
            loss = sum(module.losses(batch, tuple(names)).values()) / len(batches)
            for sum_, part in zip(whole, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if part is not None:
                    sum_ += part
    finally:
        module.trainer = None
    return torch.cat([each.flatten() for each in whole])


def difference(one: Tensor, other: Tensor) -> float:
    """The relative difference of two gradients."""
    return ((one - other).norm() / other.norm().clamp(min=1e-30)).item()
