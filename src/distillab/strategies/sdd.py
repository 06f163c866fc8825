"""Scale decoupled distillation: KD of what each head says of parts of the image (Wei et al., arXiv 2403.13512)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Scheduled
from distillab.strategies.kd import kd_rows
from distillab.strategies.parts.features import ReadByHead


def cell_logits(outputs: Fields | Outputs, grids: Sequence[int]) -> Tensor:
    """A model's own head on the mean of each cell of its last map: (N, cells, classes)."""
    cells = [F.adaptive_avg_pool2d(outputs.last_map, grid).flatten(2) for grid in grids]
    # Not `head(…)`: a call would run the hooks that read the model.
    return F.linear(torch.cat(cells, 2).transpose(1, 2), outputs.head.weight, outputs.head.bias)


class ScaleDecoupledKD(ReadByHead):
    """KD on the logits of cells of the last map, mean over cells; it is cut into each of `grids` cells a side.

    A cell counts twice where the teacher is right about the cell and wrong about the whole image, or the other way
    round. A grid that is finer than the map repeats its cells.
    """

    needs = (*ReadByHead.needs, "batch.labels")

    def __init__(self, weight: Scheduled = 0.9, temperature: Scheduled = 4.0, grids: Sequence[int] = (1, 2)) -> None:
        super().__init__(weight)
        self.temperature = self.number("temperature", temperature, above=0)
        self.grids = list(grids)
        if not self.grids or not all(isinstance(grid, int) and grid >= 1 for grid in self.grids):
            raise UserError(f"grids must be whole numbers from 1, e.g. [1, 2], got {self.grids}")

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`kd` of the cells' logits, each cell counted once or twice."""
        self.check_heads(student, teacher)
        s, t = cell_logits(student, self.grids), cell_logits(teacher, self.grids)
        cell_right = t.argmax(-1) == batch.labels[:, None]
        whole_right = teacher.logits.argmax(-1) == batch.labels
        counts = 1 + (cell_right != whole_right[:, None]).to(s.dtype)
        rows = kd_rows(s.flatten(0, 1), t.flatten(0, 1), self.temperature)
        return (counts.flatten() * rows).mean()
