"""Reads models and tokenizers of transformers: no code of theirs runs, and no weight is made up."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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

    how = {"output_loading_info": True, "ignore_mismatched_sizes": True, **how}  # told below, in one line
    with _without_report() as reports, _reading(place):
        net, found = AutoModelForCausalLM.from_pretrained(place, **NO_CODE, **how)
        if others := sorted(found["mismatched_keys"]):
            key, has, asks = others[0]
            reports.clear()
            raise UserError(f"{key} is {tuple(has)} in its weights, and {tuple(asks)} by its config")
        if missing := sorted(found["missing_keys"]):
            reports.clear()
            raise UserError(
                f"its weights lack {len(missing)} of the parameters that its config asks for: {first_few(missing)}"
            )
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
