"""The network below its adapters as a teacher: the anchor that holds an adapted model near what it was."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from distillab.data.batch import Batch
from distillab.models.model import Model
from distillab.models.trace import evaluation_mode
from distillab.teachers.base import TeacherSource

if TYPE_CHECKING:
    from peft import PeftModel


class Unadapted(TeacherSource):
    """The student with its adapters switched off: the frozen base model, without a second copy of its weights."""

    def __init__(self, student: Model, adapters: "PeftModel") -> None:
        super().__init__()
        # In a list it is no submodule: the weights are the student's, and its checkpoint has them.
        self.own = [(student, adapters)]
        self.info = student.info

    @torch.no_grad()
    def forward(self, batch: Batch) -> list[SimpleNamespace]:
        """The base model's logits for each view."""
        student, adapters = self.own[0]
        with adapters.disable_adapter(), evaluation_mode(student):
            return [SimpleNamespace(logits=student.outputs(**view)) for view in batch.inputs]
