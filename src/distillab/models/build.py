"""Builds the student or the teacher from its config and the data's shape, classes and normalisation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from distillab.core.allowed import Range, spelled
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import accepted, check_arguments, did_you_mean
from distillab.core.output import rank_zero_print_once
from distillab.models.builder import is_teacher
from distillab.models.by_order import has_known_order
from distillab.models.checkpoint import check_names, load_weights, read_weights
from distillab.models.image_model import ImageModel
from distillab.models.made_network import Plan, bare_network, builder_of, check_passed_on, is_ours, name_of, sized_by
from distillab.models.new_head import as_trained, renew_head, take_head

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224  # mean, standard deviation, input size
PRETRAINED = 1000  # the classes of ImageNet, which pretrained weights tell apart


def build_model(
    config: ModelConfig,
    role: str,
    classes: Sequence[str],
    input_shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
) -> ImageModel:
    """A model in its role, with fresh weights, pretrained ones, or those of `config.checkpoint`.

    The data has `classes`, images of `input_shape` (C, H, W), and `mean` and `std`, which are used where neither the config
    nor the weights bring their own. The same seed gives the same fresh weights whatever the strategy. Where the weights tell
    other classes apart, or none, the head is a fresh one: `Model.new_head` of a teacher says why, of any other network a line.
    Raises UserError where the config does not give such a model, or the checkpoint does not fit it.
    """
    of_data, of_weights, weights, name = {"mean": mean, "std": std}, {}, {}, name_of(config)
    if config.checkpoint:
        weights, about = read_weights(config.checkpoint, f"{role}.checkpoint")
        of_weights = vars(about)
    elif config.pretrained:
        of_weights = _pretrained_settings(*IMAGENET, input_shape)
    why = _why_new_head(config, role, of_weights.get("classes"), classes)
    unnamed = {"classes": None} if why else {}
    settings = _settings(vars(config) | unnamed, of_weights | unnamed, of_data)
    size = input_shape[1] if settings["input_size"] is None else settings["input_size"]
    shape = {"num_classes": len(settings["classes"] or classes), "in_channels": input_shape[0], "image_size": size}
    plan = Plan(config, role, shape, seed)
    net = plan.network()
    told = getattr(net, "pretrained_cfg", None) or {}  # what the weights of timm and of transformers say of themselves
    if config.pretrained and told:
        numbers = told["mean"] or IMAGENET[0], told["std"] or IMAGENET[1], told["input_size"][-1]
        named = {"classes": _named(told.get("classes"), classes, f"{role} {name}") if config.classes is None else None}
        of_weights = _pretrained_settings(*numbers, input_shape) | named | unnamed
        settings = _settings(vars(config) | unnamed, of_weights, of_data)
    if config.pretrained and _may_adapt(config, role) and told.get("num_classes", PRETRAINED) != len(classes):
        other = f"its pretrained weights tell other classes apart, or none, and the data have {len(classes):,}"
        why = why or told.get("new_head") or other
    if weights:
        net, why = _trained(plan, net, weights, why)
    channels = 3 if config.pretrained else input_shape[0]
    numbers = {key: _per_channel(settings[key], channels, f"{role}.{key}") for key in ("mean", "std")}
    settings |= numbers | {"class_order": _class_order(settings.pop("classes"), classes, role)}
    try:
        model = ImageModel(net, input_shape, name, **settings, stages=config.stages, head=config.head)
        outputs = model.info.outputs
        features = model.info.head is None and (config.adapt in ("head", "none") or why is not None)
        if is_teacher(role) and _may_adapt(config, role) and (outputs != len(classes) or features):
            given = f"it has {outputs:,} outputs, and the data have {len(classes):,} classes"
            why = why or (given if model.info.head else _other_classes(None, len(classes)))
            renew_head(net, model.net_shape, model.info, len(classes), seed)
            model = ImageModel(net, input_shape, name, **settings, stages=config.stages)
    except UserError as error:
        raise UserError(f"{role}: {error}") from error
    model.builder, model.new_head = config.builder.target, why if is_teacher(role) else None
    model.assumed = _assumed(config, told if config.pretrained else of_weights)
    if (outputs := model.info.outputs) != len(classes):
        mend = f"let its signature take num_classes, or name the outputs with {role}.classes=[…]"
        raise UserError(f"{role}: {name} has {outputs} outputs and the data {len(classes)} classes; {mend}")
    if why and not is_teacher(role):
        rank_zero_print_once(f"{role} {name}: its head starts anew ({why})")
    return model


def _trained(
    plan: Plan, fresh: nn.Module, weights: Mapping[str, Tensor], why: str | None
) -> tuple[nn.Module, str | None]:
    """A network with the weights of a checkpoint, and why its head is a fresh one where it is; `why`: what is known so far.

    A head for another number of classes is loaded with the network that has it, and that of `fresh` then takes its place.
    """
    config, role, net, sized = plan.config, plan.role, fresh, ()
    if _may_adapt(config, role) and (sized := plan.sized_by_classes(fresh)):
        own, weights = as_trained(fresh, weights, sized, f"{role}.checkpoint: {config.checkpoint}")
        if own != plan.classes:
            why = why or _other_classes(own, plan.classes)
            net = fresh if own is None else plan.network(own)
    if why and not sized and not is_teacher(role):
        what = f"{role}: {why}, and {name_of(config)} takes no num_classes, by which it would get a new head"
        raise UserError(f"{what}; choose another file with {role}.checkpoint=…")
    stem = {"auto": "native", "small": "native", "native": "small"}.get(config.builder.get("stem"))
    first = f"{role}.stem={stem} if it was trained so" if stem else ""  # small or as torchvision has it
    load_weights(net, weights, name_of(config), config.checkpoint, key=f"{role}.checkpoint", first=first)
    linear = all(isinstance(fresh.get_submodule(name.rpartition(".")[0]), nn.Linear) for name in sized)
    if why and (linear or not is_teacher(role)):  # behind any other a teacher gets one, as only that can be fitted
        take_head(net, fresh, sized)
    return net, why


def _named(own: Sequence[str] | None, classes: Sequence[str], network: str) -> list[str] | None:
    """The data's classes in the order of a network's outputs, which has names of its `own`; None where these are others."""
    if own is None or len(own) != len(classes):
        return None
    known = {str(name).casefold(): name for name in classes}
    if len(known) == len(classes) and {name.casefold() for name in own} == known.keys():
        return [known[name.casefold()] for name in own]
    rank_zero_print_once(
        f"{network}: its outputs have other names ({', '.join(own[:3])}, …) and are taken in the order of the data's classes "
        f"({', '.join(map(str, classes[:3]))}, …); {network.partition(' ')[0]}.classes=[…] names another"
    )
    return None


def _assumed(config: ModelConfig, of_weights: Mapping[str, Any]) -> str | None:
    """What nobody has said of the images that ready-made weights were trained on, and whose numbers stand for it."""
    if str(config.builder.target).startswith("distillab.models.torchvision.") and config.pretrained:
        return None
    whose = "the data's" if config.checkpoint else "ImageNet's" if config.pretrained else None
    keys = [key for key in ("mean", "std") if getattr(config, key) is None and of_weights.get(key) is None]
    side = f", and images of {of_weights['input_size'][-1]} pixels" if of_weights.get("assumed_side") else ""
    return f"{whose} {' and '.join(keys)}{side}" if keys and whose else None


def _may_adapt(config: ModelConfig, role: str) -> bool:
    """Whether a new head may stand for the network's own: of a ready-made one whose outputs nobody has named.

    A builder of somebody else's does what it likes with the head of pretrained weights: its student is taken as it is.
    """
    unnamed = config.classes is None or config.adapt in ("head", "none")
    known = is_teacher(role) or bool(config.checkpoint) or is_ours(builder_of(config.builder, role), "distillab.")
    return bool(config.checkpoint or config.pretrained) and unnamed and known


def _why_new_head(config: ModelConfig, role: str, own: Sequence[str] | None, classes: Sequence[str]) -> str | None:
    """Why a network gets a new head, as far as its config and the names in its file tell; None where they do not."""
    if config.adapt in ("head", "none"):
        return f"{role}.adapt={config.adapt}"
    if _may_adapt(config, role) and own is not None and set(classes) != set(map(str, own)):
        return _other_classes(len(own), len(classes), f" ({', '.join(map(str, own[:3]))}, …)")
    return None


def _other_classes(own: int | None, classes: int, named: str = "") -> str:
    if own is None:
        return f"its weights have no head, and the data have {classes:,} classes"
    return f"its weights tell {own:,} other classes{named} apart, and the data have {classes:,}"


def check_network(config: ModelConfig, role: str) -> None:
    """Refuse what shows before the data are read: the class, its arguments, the names of stages, head and weights.

    The network is built for images of no particular shape, one of distillab or torchvision without memory; one that cannot
    be built so, or starts from pretrained weights, is checked once the data are known. Raises UserError.
    """
    node, made, weights, names = config.builder, builder_of(config.builder, role), {}, config.classes
    if config.checkpoint and not config.shard:
        weights, about = read_weights(config.checkpoint, f"{role}.checkpoint")
        names = names or about.classes
    known = len(names) if names else config.expected_classes
    classes = known or 10
    shape = {"num_classes": classes, "in_channels": 3, "image_size": config.input_size or 224, "pretrained": False}
    arguments = accepted(made, shape) | dict(node.arguments)
    check_arguments(node, made, role, arguments)
    check_passed_on(node, made, role)
    net = None if config.pretrained else bare_network(made, arguments)
    if not isinstance(net, nn.Module):
        return
    name, modules = name_of(config), [path for path, _ in net.named_modules() if path]
    for kind, paths in (("stage", config.stages or ()), ("head", [config.head] if config.head else ())):
        for path in paths:
            if path not in modules:
                top = ", ".join(path for path in modules if "." not in path)
                raise UserError(
                    f'{role}: {name} has no {kind} "{path}"{did_you_mean(path, modules)} (its modules: {top})'
                )
    if weights:
        heads = sized_by(net, made, arguments, num_classes=classes + 1) or []
        sized = [*_fixed(net, made, arguments, heads), *(heads if known is not None else ())]
        if heads and _may_adapt(config, role):
            own, weights = as_trained(net, weights, heads, f"{role}.checkpoint: {config.checkpoint}")
            net = net if own in (None, classes) else bare_network(made, arguments | {"num_classes": own})
        check_names(net, weights, name, config.checkpoint, key=f"{role}.checkpoint", sized=sized)


def _fixed(
    net: nn.Module, made: Callable[..., Any], arguments: Mapping[str, Any], heads: Sequence[str]
) -> Sequence[str]:
    """The names of the tensors whose shape is known before the data are, but for those of the `heads`."""
    if not is_ours(made, "distillab.models.zoo.", "distillab.models.torchvision.") or not has_known_order(net):
        return ()
    of_images = sized_by(net, made, arguments, **accepted(made, {"in_channels": 1, "image_size": 32}))
    if of_images is None:
        return ()
    return [name for name in net.state_dict() if name not in of_images and name not in heads]


def _per_channel(values: Sequence[float], channels: int, path: str) -> list[float]:
    """One number for each channel of the input; grey images may go into a network of three as well."""
    if len(values) not in (1, 3 if channels == 1 else channels):
        raise UserError(f"{path} must list 1 or {channels} numbers, got {spelled(list(values))}: {path}=null")
    for value in values:
        Range(above=0 if path.endswith("std") else None).check(value, f"each of {path}")
    return list(values) * (channels if len(values) == 1 else 1)


def _pretrained_settings(
    mean: Sequence[float], std: Sequence[float], side: int, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Normalisation of pretrained weights, and their input size where the data's images are smaller."""
    return {"mean": mean, "std": std, "input_size": side if max(input_shape[1:]) < side else None}


def _settings(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting of a model from the first source that has it; None where none has."""
    keys = ("classes", "mean", "std", "input_size")
    return {key: next((s[key] for s in sources if s.get(key) is not None), None) for key in keys}


def _class_order(own: Sequence[str] | None, classes: Sequence[str], role: str) -> list[int] | None:
    """For each class of the data the number of the output that stands for it; None where the orders agree."""
    if own is None or list(own) == list(classes):
        return None
    own = [str(name) for name in own]
    if missing := [name for name in classes if name not in own]:
        lacks = f"{role}.classes lacks {', '.join(missing[:5])}"
        raise UserError(f"{lacks}; it must name every output, the data's classes among them")
    return [own.index(name) for name in classes]
