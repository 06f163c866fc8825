"""The words of a command line as people type them, made into those that Hydra reads; and what a wrong one may mean."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

OPTIONAL = ("+experiment=", "+debug=", "+sweep=")  # these groups are in the defaults, as null: a plus says no more
TEXTS = ("checkpoint", "root", "cache_dir", "runs", "store", "name", "project", "entity")  # keys of text, mostly paths

# What other codes call a key, a strategy or an option.
KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("model", "arch", "architecture", "network", "net"), ("student", "teacher")),
    **dict.fromkeys(("dataset", "data_set", "datamodule"), ("data",)),
    **dict.fromkeys(("method", "distiller", "loss", "kd", "algorithm"), ("strategy",)),
    **dict.fromkeys(("learning_rate", "learningrate"), ("recipe.lr",)),
    **dict.fromkeys(("max_epochs", "num_epochs", "n_epochs"), ("recipe.epochs",)),
    **dict.fromkeys(("max_steps", "num_steps", "total_steps"), ("recipe.steps",)),
    **dict.fromkeys(("bs", "batchsize", "train_batch_size"), ("recipe.batch_size",)),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus", "num_devices"), ("trainer.devices",)),
    **dict.fromkeys(("wd", "decay"), ("recipe.weight_decay",)),
    **dict.fromkeys(("temperature", "temp", "T"), ("strategy.kd.temperature",)),
    **dict.fromkeys(("teacher_path", "teacher_checkpoint", "ckpt", "ckpt_path"), ("teacher.checkpoint",)),
    **dict.fromkeys(("data_dir", "data_path", "root"), ("data.root",)),
    **dict.fromkeys(("output_dir", "out_dir", "output", "save_dir"), ("paths.runs",)),
    **dict.fromkeys(("device",), ("trainer.accelerator",)),
    **dict.fromkeys(("wandb",), ("logger",)),
}
STRATEGIES = {
    **dict.fromkeys(("fitnet", "fitnets", "hints", "featurekd"), "hint"),
    **dict.fromkeys(("at", "attentiontransfer"), "attention"),
    **dict.fromkeys(("hinton", "vanilla", "vanillakd", "softtarget", "softtargets", "st", "logits"), "kd"),
    **dict.fromkeys(("scratch", "baseline", "ce", "alone", "student", "noteacher"), "none"),
    **dict.fromkeys(("ls", "lskd", "logitstandardization", "logitstandardisation", "standardize", "zscore"), "kd_std"),
    **dict.fromkeys(("factortransfer",), "ft"),
    **dict.fromkeys(("similarity", "spkd", "similaritypreserving"), "sp"),
    **dict.fromkeys(("correlation", "cckd", "correlationcongruence"), "cc"),
    **dict.fromkeys(("abloss", "activationboundary", "activationboundaries"), "ab"),
    **dict.fromkeys(("overhaul", "omfd"), "ofd"),
    **dict.fromkeys(("review", "knowledgereview"), "reviewkd"),
    **dict.fromkeys(("decoupled", "decoupledkd"), "dkd"),
    **dict.fromkeys(("catkd", "cam"), "cat"),
    **dict.fromkeys(("probabilistic", "probabilisticknowledgetransfer"), "pkt"),
    **dict.fromkeys(("contrastive", "infonce"), "crd"),
    **dict.fromkeys(("sem",), "semckd"),
    **dict.fromkeys(("sim",), "simkd"),
    **dict.fromkeys(("relational", "relationalkd"), "rkd"),
    **dict.fromkeys(("distkd",), "dist"),
    **dict.fromkeys(("curriculum", "curriculumtemperature"), "ctkd"),
    **dict.fromkeys(("multilevel", "multilevelkd"), "mlkd"),
    **dict.fromkeys(("funmatch", "patientteacher"), "function_matching"),
    **dict.fromkeys(("simplerecipe",), "srd"),
    **dict.fromkeys(("ofakd", "oneforall"), "ofa"),
    **dict.fromkeys(("distillationtoken",), "deit"),
}


def understood(words: Sequence[str]) -> list[str]:
    """The words for Hydra: options first, as argparse wants it, `--key value` as `key=value`, hard texts in quotes."""
    options, overrides, rest = [], [], [word for word in words if word != "--"]
    known = get_args_parser()._option_string_actions
    while rest:
        word = rest.pop(0)
        action = known.get(word.partition("=")[0])
        if action is not None:
            takes = action.nargs is None and "=" not in word  # an option without a value has nargs=0
            if action.nargs == "?" and "=" not in word:  # it would take an override for its value
                value = rest.pop(0) if rest and rest[0] in action.choices else action.const
                word = f"{action.option_strings[0]}={value}"
            options += [word, *([rest.pop(0)] if takes and rest else [])]
        elif word.startswith("-"):
            key = word.lstrip("-").replace("-", "_") if "=" not in word else word.lstrip("-")
            valued = "=" in key or not rest or rest[0].startswith("-") or "=" in rest[0]
            overrides.append(key if "=" in key else f"{key}={'true' if valued else rest.pop(0)}")
        else:
            overrides.append(word.removeprefix("+") if word.startswith(OPTIONAL) else word)
    return options + [readable(word) for word in overrides]


def readable(word: str) -> str:
    """An override whose value is in quotes where Hydra's grammar would not read it as the text that it is."""
    key, sign, value = word.partition("=")
    if not sign or not value:
        return word
    parts = value.split(",")
    if len(parts) > 1 and all(part.startswith(("~/", "/")) for part in parts) and "~/" in value:  # a sweep over paths
        return f"{key}={','.join(readable(f'{key}={part}').partition('=')[2] for part in parts)}"
    text = os.path.expanduser(value) if value.startswith("~/") else value
    path = key.rpartition(".")[2] in TEXTS
    structure = text.startswith(("[", "{", "'", '"')) or re.match(r"\w+\(", text)
    if structure:
        text = re.sub(r"(?<=[\[({,:])~/", f"{os.path.expanduser('~')}/", text)
    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
        plain = not (path and isinstance(parsed.value(), int | float))  # 1e3 as a name is no number
    except HydraException:
        plain = bool(structure) and not path  # a slip in a list, a mapping or a sweep is told
    return f"{key}={text}" if plain else f"{key}={quoted(text)}"


def quoted(text: str) -> str:
    """A text in Hydra's quotes, in which a quote and the backslashes before it are escaped."""
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ("\\" if found[2] else "") + found[2], text)
    return f'"{escaped}"'


def squashed(name: str) -> str:
    """A name without case and signs: `ReviewKD`, `review-kd` and `review_kd` are one."""
    return re.sub(r"[\W_]", "", name.lower())


def meant(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed choice that a name means: by another spelling, or as other codes call a strategy."""
    same = {squashed(one): one for one in allowed}
    other = STRATEGIES.get(squashed(name))
    return same.get(squashed(name)) or (other if other in same.values() else None)


def places(key: str, config: Mapping[str, Any]) -> list[str]:
    """The keys of the whole config that an unknown one may mean, by the name that others give it or by its last part."""
    last = key.rpartition(".")[2]
    if last in KEYS and "." not in key:
        return list(KEYS[last])
    found = list(_dotted(config))
    close = get_close_matches(last, {path.rpartition(".")[2] for path in found}, n=1, cutoff=0.8)
    ends = [path for path in found if close and path.rpartition(".")[2] == close[0]]
    return sorted(ends, key=lambda path: (path.count("."), path.startswith("teacher")))[:2]


def _dotted(config: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """The dotted keys of a config in plain Python."""
    for key, value in config.items():
        yield f"{parent}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{parent}{key}.")
