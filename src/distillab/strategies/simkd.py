"""SimKD: the student's map, projected, goes into the teacher's own head (Chen et al., arXiv 2203.14001)."""

import copy
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.core.errors import UserError
from distillab.models.checkpoint import read_shipped
from distillab.models.feature_extractor import FeatureExtractor, as_map
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.models.image_model import ImageModel
from distillab.models.model import Model
from distillab.models.trace import trace
from distillab.strategies.base import Fields, Outputs, Scheduled, Term
from distillab.strategies.hint import hint
from distillab.strategies.parts.features import check_head, pool_to_smaller


class Projector(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with BatchNorm and ReLU to the teacher's channels, narrow between them.

    A map larger than the teacher's is average-pooled to its size first.
    """

    def __init__(self, student: Stage, teacher: Stage, factor: int) -> None:
        super().__init__()
        self.size = (min(student.height, teacher.height), min(student.width, teacher.width))
        narrow = teacher.channels // factor
        shapes = ((student.channels, narrow, 1), (narrow, narrow, 3), (narrow, teacher.channels, 1))
        self.layers = nn.Sequential()
        for before, after, side in shapes:
            convolution = nn.Conv2d(before, after, side, padding=side // 2, bias=False)
            self.layers.extend([convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, student channels, H, W) → (N, teacher channels, height, width) of the smaller map."""
        return self.layers(x if x.shape[2:] == self.size else F.adaptive_avg_pool2d(x, self.size))


class SimKD(Term):
    """Mean squared error of the last maps, the student's through a projector; no labels and no logits.

    The student's own head learns nothing: projector and teacher's head ship instead of it. Inside, the projector has
    the teacher's channels over `factor`, a whole number from 1.
    """

    needs = ("student.stages", "teacher.last_map", "teacher.embedding")
    ships_head = True
    weight: Scheduled = 1.0
    factor: int = 2

    def connect(self, student: FeatureInfo, teacher: FeatureInfo) -> None:
        """Build the projector; a teacher's head that cannot read its last map, or too large a factor, is refused."""
        check_head(teacher)
        goal = teacher.last_map
        if self.factor > goal.channels:
            raise UserError(f"factor must leave a channel of {goal} of {teacher.name}, got {self.factor}")
        self.teacher_info = teacher
        self.projector = Projector(student.stages[-1], goal, self.factor)

    def forward(self, student: Outputs, teacher: Outputs, batch: Fields) -> Tensor:
        """`hint` of the projected student map, at the smaller of the two sizes."""
        if not self.training:  # as in the trial before the first step
            check_head(self.teacher_info, teacher.last_map.mean((2, 3)), teacher.embedding)
        return hint(*pool_to_smaller(self.projector(student.stages[-1]), teacher.last_map))

    def deploy(self, student: ImageModel, teacher: nn.Module) -> nn.Module:
        """The student up to its last map, the projector, and the one teacher's head."""
        if not isinstance(getattr(teacher, "model", None), ImageModel):
            raise UserError("simkd ships the head of one teacher, and there is none; choose scheme=offline")
        return ProjectedStudent(student, self.projector, frozen_head(teacher.model))


class ProjectedStudent(Model):
    """A student whose last map goes through a projector, the mean over places and a frozen copy of the teacher's head.

    Takes images and gives logits in the data's class order, as the models it is made of. It shares the tensors of
    the student (of which it leaves out what lies behind the last stage) and the projector.
    """

    def __init__(self, student: ImageModel, projector: Projector, head: nn.Linear) -> None:
        super().__init__()
        self.stage = student.info.stages[-1]
        self.student = up_to(student, self.stage.name)
        self.student.net.get_submodule(self.stage.name).register_forward_hook(self._keep)
        self.projector = projector
        self.head = head
        self.info = student.info
        self.features: Tensor | None = None

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.features = as_map(output, self.stage)
        if not torch.compiler.is_exporting():  # no exporter follows an exception; it drops what nobody reads
            raise Reached

    def forward(self, pixels: Tensor) -> Tensor:
        """Float images (N, C, H, W) in [0, 1] → logits (N, classes of the data)."""
        with suppress(Reached):
            self.student(pixels)
        features, self.features = self.features, None
        return self.head(self.projector(features).mean((2, 3)))

    def example_inputs(self, size: int = 2) -> dict[str, Tensor]:
        """The student's."""
        return self.student.example_inputs(size)

    @property
    def about(self) -> dict[str, Any]:
        """The arguments of `load` beside the weights."""
        return {"size": list(self.projector.size)}

    @classmethod
    def load(cls, file: str | Path, student: ImageModel) -> Self:
        """An exported student with what it ships, from a run's `student.safetensors`.

        The weights of `student`, of the architecture that was trained, are replaced; UserError for any other file.
        """
        weights, about = read_shipped(file)
        try:
            narrow, (classes, channels) = len(weights["projector.layers.0.weight"]), weights["head.weight"].shape
            own = student.info.stages[-1]
            goal = Stage("", channels, *about["size"])
            projector = Projector(own, goal, channels // narrow)
            loaded = cls(student, projector, nn.Linear(channels, classes, bias="head.bias" in weights))
            loaded.load_state_dict(weights)
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{file} holds no {student.info.name} trained with strategy=simkd") from error
        return loaded.eval()


class Reached(Exception):
    """Ends the student's forward pass once its last stage has run."""


def up_to(model: ImageModel, stage: str) -> ImageModel:
    """A model with the same tensors up to a stage, without the layers behind it and the hooks that read it in training."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    model = copy.deepcopy(model, shared)
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            reading = [k for k, hook in hooks.items() if getattr(hook, "__module__", "") == FeatureExtractor.__module__]
            for key in reading:
                del hooks[key]
    calls = trace(model.net, model.net_shape)
    end = next(place for place, call in enumerate(calls) if call.path == stage)
    before = {call.path for call in calls[: end + 1]}
    for call in calls[end + 1 :]:
        if call.leaf and call.path not in before:
            model.net.set_submodule(call.path, nn.Identity())
    return model


def frozen_head(model: ImageModel) -> nn.Linear:
    """A copy of a model's head, its outputs in the data's class order."""
    head = model.net.get_submodule(model.info.head)
    order = slice(None) if model.class_order is None else model.class_order
    weight, bias = head.weight.detach()[order], head.bias
    place = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
    copied = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, **place)
    copied.weight.data.copy_(weight)
    if bias is not None:
        copied.bias.data.copy_(bias.detach()[order])
    return copied.requires_grad_(False)
