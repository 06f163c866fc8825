"""Reads a model's inner outputs while it runs, by forward hooks."""

from collections.abc import Iterable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.models.attention import Attention
from distillab.models.feature_info import Stage
from distillab.models.model import Model

MODEL_OUTPUTS = ("logits", "stages", "stem", "last_map", "preactivations", "norms", "embedding", "head", "attentions")
MODEL_OUTPUTS += ("token_logits",)  # of a transformer with a distillation token


class FeatureExtractor:
    """Runs a model and returns the outputs that were asked for.

    Hooks stay on the modules (set before any compile) and only keep references for the length of one call. Raises
    UserError for a need, one of MODEL_OUTPUTS, that the model cannot serve.
    """

    def __init__(self, model: Model, needs: Iterable[str]) -> None:
        self.model, self.run = model, model.outputs
        self.needs = frozenset(needs)
        self.tried = False
        self.caught: dict[str, Tensor] = {}
        self.taps: list[str] = []  # the keys of `caught` that every call must fill
        self.attentions: dict[nn.Module, Attention] = {}
        self.tap = nullcontext()
        self.stages = model.info.stages
        self.handles = []
        modules = dict(model.net.named_modules())
        if self.needs & {"stages", "last_map", "preactivations", "attentions"} and not self.stages:
            mend = "name their modules, e.g. student.stages=[layer1]"
            raise UserError(f"{model.info.name} shows no feature maps; {mend}")
        if "stages" in self.needs:
            for stage in self.stages:
                self._after(modules[stage.name], stage.name)
        if "attentions" in self.needs:
            self.tap = model.attention_tap(self.attentions.__setitem__)
            self.inside = [set(modules[stage.name].modules()) for stage in self.stages]
        if "last_map" in self.needs:
            self._after(modules[model.info.last_map.name], "last_map")
        if "stem" in self.needs and model.info.stem is not None:
            self._after(modules[model.info.stem.name], "stem")
        if "preactivations" in self.needs:
            for stage in self.stages:
                if stage.activation is None:
                    self._after(modules[stage.name], f"pre:{stage.name}")
                else:
                    within = modules[stage.name] if stage.activated else None
                    self._before(modules[stage.activation], f"pre:{stage.name}", within=within)
            for module in modules.values():  # an in-place ReLU would overwrite what the hook keeps
                if getattr(module, "inplace", False):
                    module.inplace = False
        if "norms" in self.needs:
            self.norms = [modules[stage.norm] if stage.norm else None for stage in self.stages]
        if self.needs & {"embedding", "head"}:
            if model.info.head is None:
                raise UserError(f"{model.info.name} has no linear head to read; name it, e.g. student.head=fc")
            self.head = modules[model.info.head]
            self._before(self.head, "embedding")

        if "token_logits" in self.needs:
            if model.info.token_heads is None:
                raise UserError(
                    f"{model.info.name} has no distillation token; choose a method for any, e.g. strategy=kd"
                )
            for path in model.info.token_heads:
                self._after(modules[path], f"token:{path}")

    def _after(self, module: nn.Module, key: str) -> None:
        self.taps.append(key)

        def hook(_: nn.Module, __: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
            self.caught[key] = output[0] if isinstance(output, tuple) else output

        self.handles.append(module.register_forward_hook(hook))

    def _before(self, module: nn.Module, key: str, within: nn.Module | None = None) -> None:
        """Keep a module's input; of several calls (a shared activation) the last one, inside `within` if given."""
        inside = within is None
        self.taps.append(key)

        def cross(*args: object) -> None:
            nonlocal inside
            inside = len(args) == 2  # a hook before the module gets no output

        def hook(_: nn.Module, args: tuple) -> None:
            if inside:
                self.caught[key] = args[0]

        if within is not None:
            self.handles += [within.register_forward_pre_hook(cross), within.register_forward_hook(cross)]
        self.handles.append(module.register_forward_pre_hook(hook))

    def __call__(self, **inputs: Tensor) -> SimpleNamespace:
        """Run the model on one view; the namespace has what `needs` names, and nothing else.

        `stages` and `preactivations` are lists of maps (N, C, H, W) by depth, `stem` is the map before them, None where the
        model shows none, `last_map` the one that is pooled for the head, `embedding` is (N, d), `logits` (N, classes),
        `head` the `weight` and `bias` that turn the embedding into logits, `norms` the BatchNorm before each stage's last
        activation (None where there is none), `attentions` are what the attention in each stage reads, `token_logits` a list
        of the logits of the class token and of the distillation token, each (N, classes). Raises UserError at the first call
        where a stage shows only what follows the pre-activations that are asked for, and at any where one shows no attention.
        """
        with self.tap:
            logits = self.run(**inputs)
        if silent := [key.removeprefix("pre:") for key in self.taps if key not in self.caught]:
            raise UserError(
                f"{self.model.info.name} did not run {', '.join(silent)} on these images, so that nothing can be read there: "
                f"name modules that it always runs, e.g. student.stages=[…], teacher.stages=[…] or teacher.head=…"
            )
        read = SimpleNamespace()
        if "logits" in self.needs:
            read.logits = logits
        if "stages" in self.needs:
            read.stages = [as_map(self.caught[stage.name], stage) for stage in self.stages]
        if "last_map" in self.needs:
            read.last_map = as_map(self.caught["last_map"], self.model.info.last_map)
        if "stem" in self.needs:
            stem = self.model.info.stem
            read.stem = None if stem is None else as_map(self.caught["stem"], stem)
        if "preactivations" in self.needs:
            read.preactivations = [as_map(self.caught[f"pre:{stage.name}"], stage) for stage in self.stages]
            if not self.tried:
                self._check_preactivations(read.preactivations)
        if "embedding" in self.needs:
            read.embedding = self.caught["embedding"].flatten(1)
        if "attentions" in self.needs:
            read.attentions = [self._attention(*stage) for stage in zip(self.stages, self.inside, strict=True)]
        if "token_logits" in self.needs:
            order = slice(None) if self.model.class_order is None else self.model.class_order
            read.token_logits = [self.caught[f"token:{path}"][:, order] for path in self.model.info.token_heads]
        vars(read).update(self.layers())
        self.caught.clear()
        self.attentions.clear()
        return read

    def _attention(self, stage: Stage, inside: set[nn.Module]) -> Attention:
        """The last attention in a stage; a module that computes it in a way of its own is not noted."""
        found = [attention for module, attention in self.attentions.items() if module in inside]
        if not found:
            raise UserError(
                f"{self.model.info.name} shows no attention in {stage.name}: strategy=hidden compares layers without it; where "
                f"others show some, student.stages=[…] or teacher.stages=[…] names them"
            )
        return found[-1]

    def _check_preactivations(self, maps: list[Tensor]) -> None:
        """Once: an activation that is a function, not a module, cannot be tapped; its output has no negative value."""
        self.tried = True
        for stage, values in zip(self.stages, maps, strict=True):
            if stage.activation is None and not (values < 0).any():
                shows = f"{self.model.info.name} shows {stage} only after its activation"
                raise UserError(
                    f"{shows}, and the strategy reads the map before it; name stages that end in an activation module, "
                    "e.g. student.stages=[…] or teacher.stages=[…], or choose strategy=attention"
                )

    def layers(self) -> dict[str, Any]:
        """Those of `head` and `norms` that `needs` names: parts of the model, the same at every call."""
        found: dict[str, Any] = {}
        if "norms" in self.needs:
            found["norms"] = self.norms
        if "head" in self.needs:
            order = self.model.class_order
            plain = order is None and self.model.held_in is None
            found["head"] = self.head if plain else _ordered(self.head, order)
        return found

    def compile(self) -> None:
        """From now on run the model through torch.compile."""
        self.run = torch.compile(self.model)

    def remove(self) -> None:
        """Take all hooks off, and let go of what they kept."""
        for handle in self.handles:
            handle.remove()
        self.caught.clear()
        self.attentions.clear()


def _ordered(head: nn.Module, order: Tensor | None) -> SimpleNamespace:
    """A head's weight and bias in the data's class order, in float32 at least."""
    rows = slice(None) if order is None else order
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    bias = None if head.bias is None else head.bias[rows].to(dtype)
    return SimpleNamespace(weight=head.weight[rows].to(dtype), bias=bias)


def as_map(output: Tensor, stage: Stage) -> Tensor:
    """(N, C, H, W) of a map that may be (N, H, W, C), or of tokens (N, L, C) without their class tokens."""
    if output.ndim == 4:
        shape, last = tuple(output.shape[1:]), (*stage.size, stage.channels)
        return output.movedim(3, 1) if shape == last != (stage.channels, *stage.size) else output
    patches = output[:, output.shape[1] - stage.height * stage.width :]
    return patches.transpose(1, 2).unflatten(2, (stage.height, stage.width))
