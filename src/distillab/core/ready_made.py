"""Reads models and tokenizers of transformers: no code of theirs runs, and no weight is made up."""

from typing import TYPE_CHECKING, Any

from distillab.core.errors import UserError, first_few

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Left out, transformers asks on the terminal whether the code of a model may run.
NO_CODE = {"trust_remote_code": False}


def read_tokenizer(place: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or of the hub."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, **NO_CODE)


def read_config(place: str, **how: Any) -> "PreTrainedConfig":
    """The config of a folder or of the hub."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(place, **NO_CODE, **how)


def read_causal_lm(place: str, **how: Any) -> "PreTrainedModel":
    """The causal language model of a folder or of the hub. Raises UserError where its weights are not those of its config."""
    from transformers import AutoModelForCausalLM

    how = {"output_loading_info": True, "ignore_mismatched_sizes": True, **NO_CODE, **how}  # told below, in one line
    net, found = AutoModelForCausalLM.from_pretrained(place, **how)
    if others := sorted(found["mismatched_keys"]):
        key, has, asks = others[0]
        raise UserError(f"{key} is {tuple(has)} in its weights, and {tuple(asks)} by its config")
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"its weights lack {len(missing)} of the parameters that its config asks for: {first_few(missing)}"
        )
    return net
