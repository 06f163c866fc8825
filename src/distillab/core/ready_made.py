"""Reads models and tokenizers of transformers: no code of theirs runs, and no weight is made up."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError, first_few, reason

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Left out, transformers asks on the terminal whether the code of a model may run.
NO_CODE = {"trust_remote_code": False}


SOON = 4.0  # seconds in which the hub answers, or cannot be reached


class Unreachable(UserError):
    """A name of the hub that no folder here has, where the hub cannot be asked."""


@cache  # once in a process: transformers would ask again and again for each file, with pauses in between
def why_unreachable() -> str | None:
    """Why the hub cannot be asked; None where it answers, whatever it says."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SOON)
    except Exception as error:  # of whichever library makes the requests
        return f"{constants.ENDPOINT}: {reason(error)}"
    return None


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """A block that reads `place`; of the hub only what lies in its cache here, where it cannot be reached.

    Raises Unreachable where it does not lie there.
    """
    why = None if Path(place).exists() else why_unreachable()
    if why is None:
        yield
        return
    from huggingface_hub import constants

    kept, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True  # local_files_only is not heeded everywhere
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of transformers, or the hub's
        raise Unreachable(
            f"{place} is no folder here, and the network could not be reached to find it on the hub ({why}): name a folder "
            f"that holds it"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = kept


def read_tokenizer(place: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or of the hub."""
    from transformers import AutoTokenizer

    with _reading(place):
        return AutoTokenizer.from_pretrained(place, **NO_CODE)


def read_config(place: str, **how: Any) -> "PreTrainedConfig":
    """The config of a folder or of the hub."""
    from transformers import AutoConfig

    with _reading(place):
        return AutoConfig.from_pretrained(place, **NO_CODE, **how)


def read_causal_lm(place: str, **how: Any) -> "PreTrainedModel":
    """The causal language model of a folder or of the hub. Raises UserError where its weights are not those of its config."""
    from transformers import AutoModelForCausalLM

    return _whole(AutoModelForCausalLM, place, **how)


def read_vision_model(
    place: str, *, pretrained: bool = True, head: bool = True, image_size: int | None = None
) -> tuple["PreTrainedModel", bool]:
    """The vision model of a folder or of the hub, and whether it is a classifier, else a backbone.

    Without `head`, and with fresh weights, it is the backbone; these are for images of `image_size`. Raises UserError where it
    takes no images alone, or its weights are not those of its config.
    """
    from transformers import AutoModel, AutoModelForImageClassification

    config = read_config(place)
    classifies = pretrained and head and any("ForImageClassification" in name for name in config.architectures or ())
    if pretrained:
        kind = AutoModelForImageClassification if classifies else AutoModel
        net = _whole(kind, place, without=("pooler.",), beside=head)
    else:
        if image_size is not None and hasattr(config, "image_size"):
            config.image_size = image_size if isinstance(config.image_size, int) else [image_size] * 2
        net = AutoModel.from_config(config)
    takes = signature(net.forward).parameters
    if "pixel_values" not in takes or "input_ids" in takes:
        raise UserError(
            f"{place} holds a {type(net).__name__}, which is no model of images alone; name the vision part's folder"
        )
    required = [name for name, one in takes.items() if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if others := [name for name in required if name != "pixel_values"]:
        raise UserError(
            f"{place} holds a {type(net).__name__}, which asks for {' and '.join(others)} beside images; choose another"
        )
    return net, classifies


def read_image_settings(place: str) -> tuple[list[float] | None, list[float] | None, int | None]:
    """Mean, standard deviation and side of the images that a folder's or hub's model expects; None for what is not said."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with _reading(place):
            said, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:  # there is no such file
        return None, None, None
    size = (said.get("do_center_crop", True) and said.get("crop_size")) or said.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return said.get("image_mean"), said.get("image_std"), size if isinstance(size, int) else None


def _whole(
    kind: Any, place: str, *, without: tuple[str, ...] = (), beside: bool = True, **how: Any
) -> "PreTrainedModel":
    """A model of a class of transformers; UserError where its weights lack any but those whose names start with `without`.

    What else lies `beside` its weights is printed by transformers.
    """
    how = {"output_loading_info": True, "ignore_mismatched_sizes": True, **how}  # told below, in one line
    with _without_report() as reports, _reading(place):
        net, found = kind.from_pretrained(place, **NO_CODE, **how)
        if others := sorted(found["mismatched_keys"]):
            key, has, asks = others[0]
            reports.clear()
            raise UserError(f"{key} is {tuple(has)} in its weights, and {tuple(asks)} by its config")
        if missing := sorted(key for key in found["missing_keys"] if not key.startswith(without)):
            reports.clear()
            raise UserError(
                f"its weights lack {len(missing)} of the parameters that its config asks for: {first_few(missing)}"
            )
        if not (beside and found["unexpected_keys"]):
            reports.clear()
    return net


@contextmanager
def _without_report() -> Iterator[list[logging.LogRecord]]:
    """Hold back the tables of what did not fit, and print at the end those that are still in the list."""
    logger, held = logging.getLogger("transformers.modeling_utils"), []

    def passes(record: logging.LogRecord) -> bool:
        if is_report := "LOAD REPORT" in record.getMessage():
            held.append(record)
        return not is_report

    logger.addFilter(passes)
    try:
        yield held
    finally:
        logger.removeFilter(passes)
        for record in held:
            logger.handle(record)
