"""The command `scripts/adapt.py`: adapts a language model to a domain, and writes what it learned and forgot."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distillab.commands import devices
from distillab.commands.cli import ended
from distillab.commands.composition import compose
from distillab.commands.invocation import RUNS, parse
from distillab.commands.sweep import command
from distillab.commands.words import understood
from distillab.core import output
from distillab.core.adaptation import Adaptation
from distillab.core.configuration import AdaptConfig, RunConfig
from distillab.core.errors import UserError
from distillab.core.files import file_hash, locked, writable, write_json
from distillab.core.instantiate import build
from distillab.core.output import logged, rank_zero_print, rank_zero_warn
from distillab.core.result_reader import read
from distillab.core.run_identity import config_hash, versions
from distillab.reporting.adapted import show

HELP = """python scripts/adapt.py student=runs/sotu/<hash>/student data=text data.path=my_domain
    adapts a language model to a domain by LoRA, and tells what it learned and forgot
student=…   the folder of a language model          old=sotu     the text that it was trained on, to see what it forgets
lora.rank=8 the size of the adapter (lora=null: none)   full=false   leave out training all weights beside it
anchor=0.1   the weight that keeps it near the model as it was (anchor=null: none)
All other words are those of train.py: data, recipe, protocol, trainer, seed, paths. More: docs/adapt.md"""
OWN = ("student", "old", "anchor", "lora", "full")  # keys of this command; those of `old` are of a data config
REFUSED = ("strategy", "teacher", "scheme", "sweep", "experiment", "task")
HASHED = ("data", "recipe", "protocol", "trainer", "seed")  # of the run's config


def main() -> None:
    """The entry of scripts/adapt.py."""
    if output.asks_for_help(sys.argv[1:]):
        print(HELP)
        return
    ended(lambda: adapt(sys.argv[1:]) and 0)


def adapt(words: Sequence[str]) -> Adaptation:
    """Adapt by the words of a command line; the result, written and shown. Raises UserError."""
    own, old, rest = _divided(understood(words))
    options = AdaptConfig.of(own)
    base = Path(options.student).expanduser()
    if not (base / "config.json").is_file():
        raise UserError(
            f"student: {base} is no folder of a language model (config.json); name a run's: student=…/student"
        )
    config = _config(base, rest)
    with output.quietly(config.quiet):
        return _found(options, config, _old_config(base, config, options.old, old))


def _divided(words: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """This command's own keys, the overrides of the old text's data config, and all other words."""
    own, old, rest = [], [], []
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key.partition(".")[0] in REFUSED or word.startswith("-"):
            raise UserError(
                f"{word}: an adaptation takes {', '.join(OWN)}, and data, recipe, protocol, trainer, seed, paths"
            )
        if key.startswith("old."):
            old.append("data." + word.removeprefix("old."))
        else:
            (own if key.partition(".")[0] in OWN else rest).append(word)
    if not any(word.startswith("student=") for word in own):
        raise UserError("student is missing: name the folder of a language model, e.g. student=runs/sotu/…/student")
    if not any(word.startswith("data=") for word in rest):
        raise UserError("data is missing: name the domain, e.g. data=text data.path=my_texts")
    student = next(word for word in reversed(own) if word.startswith("student=")).partition("=")[2].strip("'\"")
    keys = OmegaConf.from_dotlist([word for word in own if not word.startswith("student=")])
    return {**OmegaConf.to_container(keys), "student": student}, old, rest


def _config(base: Path, words: Sequence[str]) -> RunConfig:
    """The config of the domain, in which the student is the base model and the tokenizer its own."""
    domain = compose(list(words))
    if domain.task._target_ != "distillab.tasks.causal_lm.LanguageModeling":
        raise UserError(f"data={domain.data.name} is no text: an adaptation reads text, e.g. data=text data.path=…")
    fixed = ["student=causal_lm", f"student.path='{base}'", f"data.tokenizer='{base}'", "strategy=none", "logger=none"]
    config = parse(OmegaConf.to_container(compose([*words, *fixed]), resolve=True, throw_on_missing=False))
    if devices.number_of_devices(config.trainer) > 1:
        raise UserError("an adaptation runs on one device: trainer.devices=1")
    return config


def _old_config(base: Path, config: RunConfig, name: str | None, words: Sequence[str]) -> RunConfig | None:
    if name is None:
        if words:
            raise UserError(
                f"old is missing: {words[0].replace('data.', 'old.', 1)} belongs to a data config, e.g. old=sotu"
            )
        return None
    return _config(base, [f"data={name}", f"data.length={config.data.get('length')}", *words])


def _home(options: AdaptConfig, config: RunConfig, old: RunConfig | None) -> Path:
    """The folder of an adaptation: its name is the hash of all that the result depends on."""
    files = sorted(Path(options.student).expanduser().glob("*.safetensors"))
    described: dict[str, Any] = {key: config.plain[key] for key in HASHED}
    described |= {"old": old and old.plain["data"], "weights": [file_hash(file) for file in files]}
    described |= {key: value for key, value in asdict(options).items() if key not in ("student", "old")}
    return Path(config.paths.runs) / config.name / f"adapt-{config_hash(described)}"


def _found(options: AdaptConfig, config: RunConfig, old: RunConfig | None) -> Adaptation:
    """The earlier result, or a new one."""
    home = _home(options, config, old)
    file = home / "adapt.json"
    with locked(home.with_name(f".{home.name}.lock"), f"another process that is at {home}", RUNS):
        earlier = None if config.rerun else _read(file)
        if earlier is None:
            with writable(home, RUNS):
                home.mkdir(parents=True, exist_ok=True)
                if config.rerun:
                    _empty(home)
            with logged(home / "log.txt", command()):
                found = _made(options, config, old, home)
                with writable(home, RUNS):
                    write_json(file, found.model_dump())
                show(found, home)
            return found
    rank_zero_print(f"this adaptation was finished on {earlier.created[:10]}; rerun=true repeats it")
    show(earlier, home)
    return earlier


def _read(file: Path) -> Adaptation | None:
    try:
        return Adaptation.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        rank_zero_warn(f"{file} is no result of an adaptation ({str(error).splitlines()[0]}); it is made again")
        return None


def _empty(home: Path) -> None:
    import shutil

    (home / "adapt.json").unlink(missing_ok=True)
    for path in home.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _made(options: AdaptConfig, config: RunConfig, old: RunConfig | None, home: Path) -> Adaptation:
    """Every way that the options ask for, one after the other."""
    from distillab.training.startup import import_quietly

    import_quietly(config.trainer.accelerator)
    from distillab.schemes.adapt import Domain, Way
    from distillab.schemes.setting import Setting
    from distillab.schemes.store import Store

    task, data = build(config.task, "task"), build(config.data, "data")
    before = None if old is None else build(old.data, "old")
    for each in filter(None, (data, before)):
        each.prepare()
    setting = Setting(Store(config.paths.store), config.protocol, config.trainer, task)
    run = read(Path(options.student).expanduser().parent / "result.json")[0]
    if run is not None and before is not None and run.data.fingerprint not in (None, before.identity):
        rank_zero_warn(
            f"{options.student} was tested on other text than old={options.old} holds out; it may have learned that"
        )
    name = run.student.name if run is not None else Path(options.student).name
    domain = Domain(str(Path(options.student).expanduser()), name, data, before, setting, config.recipe, config.seed)
    ways = [Way(options.lora), *([Way(options.lora, options.anchor)] if options.anchor else [])]
    ways += [Way()] if options.lora and options.full else []
    found = [domain.unadapted()]
    for way in ways:
        found.append(domain.adapted(way, home / way.folder))
    return Adaptation(
        student=options.student,
        data=data.name,
        old=before and before.name,
        anchor=options.anchor,
        seed=config.seed,
        blocks=data.sizes["train"],
        command=command(),
        config=_shown(config, old, options),
        versions=versions(config.plain),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        ways=found,
    )


def _shown(config: RunConfig, old: RunConfig | None, options: AdaptConfig) -> Mapping[str, Any]:
    parts = {key: config.plain[key] for key in HASHED}
    return parts | {"old": old and old.plain["data"], "adapt": asdict(options)}
