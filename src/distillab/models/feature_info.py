"""The stages, embedding and head of a network, found by a dry run that allocates nothing."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from distillab.core.errors import UserError
from distillab.core.instantiate import did_you_mean
from distillab.models.trace import IMAGES, Call, reaches_output, trace

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU)


@dataclass(frozen=True)
class Stage:
    """A depth in the network whose output is read, a map; tokens are laid out as the square they come from."""

    name: str  # module path inside the network
    channels: int
    height: int
    width: int
    # Path of the activation that ends the stage, or comes right behind it and a BatchNorm; None where there is neither.
    activation: str | None = None
    norm: str | None = None  # path of the BatchNorm before that activation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def activated(self) -> bool:
        """Whether the map comes out of an activation: one behind the stage belongs to what follows."""
        return self.activation is not None and f"{self.activation}.".startswith(f"{self.name}.")

    def __str__(self) -> str:
        return f"{self.name} ({self.channels}×{self.height}×{self.width})"


@dataclass(frozen=True)
class FeatureInfo:
    """The sizes of a model that a connector is built from."""

    name: str  # for tables and messages
    stages: tuple[Stage, ...]  # by depth
    embedding: int | None  # width of the head's input
    outputs: int  # number of logits
    head: str | None  # module path of the last linear layer
    positions: int | None = field(
        default=None, repr=False
    )  # rows of logits in a sample; None: one, without a dimension
    final: Stage | None = field(default=None, repr=False)  # the map behind the last stage that is pooled for the head
    token_heads: tuple[str, str] | None = field(
        default=None, repr=False
    )  # module paths of the heads of a class token and a distillation token, whose mean are the logits
    stem: Stage | None = field(default=None, repr=False)  # the map before the first stage; None where it is not known

    @property
    def last_map(self) -> Stage:
        """The deepest map: `final` where there is one, else the last stage."""
        return self.final or self.stages[-1]

    def key(self) -> dict[str, Any]:
        """The stages, the widths and the head as part of a store's key; what else there is follows from the network."""
        values = asdict(self)
        del values["final"], values["token_heads"], values["stem"]
        if self.positions is None:  # what is off leaves no trace
            del values["positions"]
        return values | {"classes": values.pop("outputs")}  # the name in the keys of stored networks


def describe(
    net: nn.Module, input_shape: tuple[int, ...], name: str, *, stages: list[str] | None, head: str | None
) -> FeatureInfo:
    """The feature info of a network, its stages and head guessed where they are not given.

    Raises UserError for a stage or head that the network does not have, or that is not an image map.
    """
    calls = trace(net, input_shape)
    last = {call.path: call for call in calls}
    logits = last[""].output if "" in last else ()
    if len(logits) != 2:
        given = f"{name} gives {logits or 'no tensor'}"
        raise UserError(f"{given} where logits (N, classes) are expected; wrap it so it does")
    if not head and (head := _guess_head(calls, logits[1])) and last[head].input == last[head].output:
        head = head if reaches_output(net, input_shape, head) else None  # a projection inside a backbone, as wide as it
    paths = stages if stages is not None else _guess_stages(calls)
    maps = {call.path: call.map for call in calls if call.map}
    known = [path for path in maps if path]
    for path in paths:
        if path not in known:
            top = [path for path in known if "." not in path] or known[:12]
            if path in dict(net.named_modules()):
                why = "is no map, or is never called as a module in its forward pass, where features are read"
                raise UserError(f'"{path}" of {name} {why} (its maps: {", ".join(top) or "none"})')
            raise UserError(f'{name} has no stage "{path}"{did_you_mean(path, known)} (its maps: {", ".join(top)})')
    if head is not None and head not in last:
        raise UserError(f'{name} has no head "{head}"; set head= to the path of its last linear layer')
    found = tuple(Stage(path, *maps[path], *_end(calls, path)) for path in paths)
    embedding = math.prod(last[head].input[1:]) if head else None
    final = _guess_final(calls, found[-1], embedding) if found else None
    stem = _guess_stem(calls, paths[0]) if found else None
    around = {key: path and Stage(path, *maps[path]) for key, path in (("final", final), ("stem", stem))}
    return FeatureInfo(name, found, embedding, logits[1], head, **around, token_heads=_token_heads(calls, logits[1]))


def _guess_head(calls: list[Call], outputs: int) -> str | None:
    """The last linear layer that gives as many outputs as there are logits."""
    heads = [call.path for call in calls if issubclass(call.kind, nn.Linear) and call.output == (IMAGES, outputs)]
    return heads[-1] if heads else None


def _token_heads(calls: list[Call], outputs: int) -> tuple[str, str] | None:
    """The two heads of a transformer with a distillation token, by DeiT's names for them (arXiv 2012.12877)."""
    giving = [call.path for call in calls if call.output == (IMAGES, outputs)]
    pairs = [(path.removesuffix("_dist"), path) for path in giving if path.rpartition(".")[2] == "head_dist"]
    return next((pair for pair in pairs if pair[0] in giving), None)


def _guess_stages(calls: list[Call]) -> list[str]:
    """The outermost module that ends each resolution, without the stem; for tokens, four blocks at equal depths."""
    maps: dict[int, str] = {}
    for call in calls:
        if not call.path or len(call.output) != 4 or call.output[0] != IMAGES:  # a transformer's windows are more
            continue
        _, height, _ = call.map
        if 1 < height <= min(maps, default=height):
            maps[height] = call.path  # modules end from the inside out: the last one is the outermost
    if len(maps) > 1:
        return _without_stem(list(maps.values()), calls)
    blocks = [c.path for c in calls if not c.leaf and len(c.output) == 3 and c.path[-1:].isdigit()]
    blocks = [path for path in dict.fromkeys(blocks) if path.count(".") == min(p.count(".") for p in blocks)]
    if len(blocks) >= 4:
        return [blocks[(len(blocks) * quarter) // 4 - 1] for quarter in (1, 2, 3, 4)]
    return blocks or list(maps.values())


def _guess_final(calls: list[Call], stage: Stage, embedding: int | None) -> str | None:
    """The outermost module behind the last stage whose map has its size (so it is not pooled) and the head's width.

    None where the last stage's own map has that width, unless what is pooled is its activation behind it.
    """
    if stage.channels == embedding and (stage.activated or stage.activation is None):
        return None
    end = max(i for i, call in enumerate(calls) if call.path == stage.name)
    behind = [call for call in calls[end + 1 :] if call.path and len(call.output) == 4]
    wide = [call.path for call in behind if call.map == (embedding, *stage.size)]
    return wide[-1] if wide else None


def _guess_stem(calls: list[Call], first: str) -> str | None:
    """The outermost module that has run when the first stage begins, if it gives a map, and runs once."""
    kinds = {call.path: call.kind for call in calls}
    whole = first.rpartition(".")[0] if issubclass(kinds[first], nn.Identity) else first  # which marks a place in it
    begin = next(i for i, call in enumerate(calls) if f"{call.path}.".startswith(f"{whole}."))
    before = calls[begin - 1] if begin else None
    once = before is not None and [call.path for call in calls].count(before.path) == 1
    return before.path if once and before.map and len(before.output) == 4 else None


def _without_stem(paths: list[str], calls: list[Call]) -> list[str]:
    """The stages from the first block on, two at least: a stem is one layer before several, or ends in a bare module."""
    ends = {call.path: i for i, call in enumerate(calls)}
    while len(paths) > 2:
        first, second = (ends[path] + 1 for path in paths[:2])
        layers = [issubclass(call.kind, (nn.Conv2d, nn.Linear)) for call in calls[:second]]
        made, next_made = sum(layers[:first]), sum(layers[first:])
        bare = [calls[ends[path]].leaf and "." not in path for path in paths[:2]]
        if not (made <= 1 < next_made) and bare != [True, False]:
            break
        paths = paths[1:]
    return paths


def _end(calls: list[Call], stage: str) -> tuple[str | None, str | None]:
    """The activation of a stage's map, and the BatchNorm before it.

    They end the stage; or they follow it at once, as in networks whose blocks begin with them (arXiv 1603.05027).
    """
    activation, norm = _last_activation(calls, stage), _last_norm(calls, stage)
    if activation is not None:
        return activation, norm
    end = max(i for i, call in enumerate(calls) if call.path == stage)
    behind = [call for call in calls[end + 1 :] if call.leaf][:2]
    paths, shape = [call.path for call in calls], calls[end].output
    kinds = zip(behind, ((nn.BatchNorm2d,), ACTIVATIONS), strict=False)
    fits = all(issubclass(one.kind, kind) and one.output == shape and paths.count(one.path) == 1 for one, kind in kinds)
    return (behind[1].path, behind[0].path) if fits and len(behind) == 2 else (None, norm)


def _last_activation(calls: list[Call], stage: str) -> str | None:
    """The activation that a stage is or ends with: its last leaf call, where that is one, and of the whole map."""
    shape = next(call.output for call in calls if call.path == stage)
    last = [call for call in calls if call.leaf and f"{call.path}.".startswith(f"{stage}.")][-1:]
    return next((call.path for call in last if issubclass(call.kind, ACTIVATIONS) and call.output == shape), None)


def _last_norm(calls: list[Call], stage: str) -> str | None:
    """The stage's last BatchNorm on its main path: one that a shortcut calls is passed over."""
    shape = next(call.output for call in calls if call.path == stage)
    inside = [call for call in calls if call.path.startswith(f"{stage}.") and call.output == shape]
    norms = [call.path for call in inside if issubclass(call.kind, nn.BatchNorm2d)]
    main = [path for path in norms if "shortcut" not in path and "downsample" not in path]
    return (main or norms or [None])[-1]


def match_stages(student: FeatureInfo, teacher: FeatureInfo) -> list[tuple[int, int]]:
    """Pairs of stage numbers: one to one where the counts are equal, else by size, with the last stage of each size.

    A model whose maps never shrink (a transformer) is paired by depth, as are two models of equally many sizes. Raises
    UserError, with both lists, where no way pairs every size of the model that has fewer.
    """
    counts = (len(student.stages), len(teacher.stages))
    own, others = ({stage.size: i for i, stage in enumerate(info.stages)} for info in (student, teacher))
    sizes = min(len(own), len(others))
    if 0 < counts[0] == counts[1]:
        return [(i, i) for i in range(counts[0])]
    if sizes == 1 < min(counts):
        return [tuple(i * n // min(counts) - 1 for n in counts) for i in range(1, min(counts) + 1)]
    if 0 < sizes == len(own.keys() & others.keys()):
        return [(own[size], others[size]) for size in own if size in others]
    if len(own) == len(others) > 1:
        return list(zip(own.values(), others.values(), strict=True))
    lists = " against ".join(", ".join(map(str, info.stages)) or "none" for info in (student, teacher))
    mend = "name as many on both sides, e.g. student.stages=[…] teacher.stages=[…]"
    raise UserError(f"the stages of {student.name} and {teacher.name} do not pair up: {lists}; {mend}")
