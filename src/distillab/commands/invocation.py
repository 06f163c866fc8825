"""A run's config with the networks that a scheme names, its origin, its folder, and its result there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillab.commands.composition import choices, model_config
from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.files import file_hash
from distillab.core.own_code import code_of
from distillab.core.places import weights_file
from distillab.core.run_identity import VARIED, config_hash
from distillab.models.folder_identity import folder_content

if TYPE_CHECKING:
    from distillab.core.configuration import ModelConfig, RunConfig
    from distillab.core.result import Result

GROUPS = ("task", "strategy", "student", "teacher", "data", "recipe", "scheme", "protocol", "trainer", "logger")
LISTS = ("teachers", "assistants", "peers")  # the keys of a scheme that name networks
RUNS = "paths.runs=…"
LANGUAGE = "distillab.tasks.causal_lm.LanguageModeling"
FINE = 0.1  # of the rate that trains a network of images from scratch, for one whose weights are good already


@dataclass(frozen=True)
class Invocation:
    """A run's config and where it comes from."""

    config: "RunConfig"
    label: str  # the strategy's name
    command: str = ""
    overrides: Sequence[str] = ()  # the words of the command that differ from the defaults
    sweep_folder: Path | None = None  # of the sweep that the run belongs to
    sweep_began: float | None = None  # when it first began, however often it was stopped since: seconds from 1970

    @cached_property
    def home(self) -> Path:
        """The run's folder; found once, as the files and the code that it depends on are read for it."""
        return home(self.config)

    @property
    def wants_rerun(self) -> bool:
        """Whether a finished run is to be repeated; once in a sweep that is stopped and goes on."""
        if not self.config.rerun or self.sweep_began is None or (earlier := finished(self.home)) is None:
            return self.config.rerun
        return datetime.fromisoformat(earlier.created).timestamp() < self.sweep_began


def parse(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> "RunConfig":
    """The typed config of a run from the resolved one; UserError for an empty group, unknown key or wrong value.

    `overrides` are the words of the command, which may set no seed that `vary` makes follow the run's number, and no size
    of a student that starts from its teacher.
    """
    from distillab.core.configuration import RunConfig  # pydantic takes time, which --help need not spend

    for group in GROUPS:
        if not isinstance(config.get(group), dict) or not config[group]:
            raise UserError(f"{group} is empty: choose one of {', '.join(choices(group))} with {group}=…")
    config = unlabelled(fine_tuned(from_teacher(with_varied(config, overrides), overrides), overrides))
    run = RunConfig.of(with_members(config))
    for path, network in {"student": run.student, "teacher": run.teacher, **dict(named(run))}.items():
        if network.checkpoint:
            weights_file(network.checkpoint, f"{path}.checkpoint")
    return run


def with_varied(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A run's config in which the seeds that `vary` names are the number of the run, `seed`; UserError where one is set.

    The number stays in `seed`, also where the student's own is the same in every run (`vary` without `init`).
    """
    vary = [given] if isinstance(given := config.get("vary"), str) else given
    if not isinstance(vary, list):
        return dict(config)
    own, number, named = dict(config), config.get("seed"), _set_keys(overrides)
    own["vary"] = [name for name in VARIED if name in vary] + [name for name in vary if name not in VARIED]
    for name, (key, _) in VARIED.items():
        if name == "init" or name not in vary:
            continue
        Range(0, high=2**32 - 1, whole=True).check(number, "seed", 0)
        group, _, last = key.partition(".")
        if key in named or own[group].get(last) not in (None, 0, number):
            what = f"{key}={own[group][last]} is set, and vary=[…,{name}] makes it follow seed"
            raise UserError(f"{what}: leave {key} out, or {name} out of vary (vary=[init])")
        own[group] = {**own[group], last: number}
    return own


def _set_keys(overrides: Sequence[str]) -> set[str]:
    """The keys that the words of a command set."""
    return {word.lstrip("+").partition("=")[0] for word in overrides}


def from_teacher(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A run's config in which a student that starts from its teacher is written out; UserError where that cannot be.

    `student.init=teacher student.layers=[0,2,4]` is the teacher's network, with these of its layers.
    """
    student, teacher = config["student"], config["teacher"]
    if student.get("init") != "teacher":
        return dict(config)
    layers = student.get("keep_layers") or student.get("layers")
    if config["task"].get("_target_") != LANGUAGE:
        raise UserError(
            "student.init=teacher is for language models (data=text); student.checkpoint=… starts from a file"
        )
    if not isinstance(layers, list) or not layers:
        raise UserError("student.init=teacher takes some of the teacher's layers: student.layers=[0,2,4]")
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        if key.startswith("student.") and key not in ("student.init", "student.layers", "student.keep_layers"):
            raise UserError(f"{word}: student.init=teacher is the teacher's network with some layers; leave {key} out")
    if not teacher.get("checkpoint") and not teacher.get("pretrained"):
        ready = "teacher.checkpoint=…, or teacher=causal_lm teacher.path=…"
        raise UserError(f"student.init=teacher needs a teacher that is trained already: {ready}")
    name = f"{teacher.get('name') or teacher.get('path')} layers {','.join(map(str, layers))}"
    own = {
        key: value for key, value in teacher.items() if key not in ("recipe", "seed", "samples", "labelled", "stages")
    }
    own |= {"name": name.rpartition("/")[2], "init": "teacher", "keep_layers": layers, "stages": None}
    return {**config, "student": own}


def fine_tuned(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A run's config in which `teacher.adapt=all` trains at a smaller rate, unless `teacher.recipe.lr` was typed.

    Of images: a language model's rate is meant for its weights as they are.
    """
    teacher, typed = config["teacher"], _set_keys(overrides) & {"teacher.recipe.lr", "recipe@teacher.recipe"}
    if teacher.get("adapt") != "all" or typed or config["task"].get("_target_") == LANGUAGE:
        return dict(config)
    recipe = teacher["recipe"]
    return {**config, "teacher": {**teacher, "recipe": {**recipe, "lr": FINE * recipe["lr"]}}}


def unlabelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config without cross-entropy where `data.labels=none` hides all labels; UserError where nothing is left."""
    if config["data"].get("labels") != "none":
        return dict(config)
    terms = {name: term for name, term in config["strategy"].items() if name != "ce"}
    if not terms:
        raise UserError(
            "the strategy learns from labels alone, and data.labels=none hides all of them: choose e.g. strategy=foundation"
        )
    return {**config, "strategy": terms}


def named(config: "RunConfig") -> Iterator[tuple[str, "ModelConfig"]]:
    """The networks that a run's scheme names, and where they stand in the config."""
    from distillab.core.configuration import ModelConfig

    for key in LISTS:
        for place, network in enumerate(config.scheme.get(key) or ()):
            yield (path := f"scheme.{key}.{place}"), ModelConfig.of(network, path)


def with_members(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config in which every network that `scheme` names is written out, so that its hash sees them.

    An entry is the name of a model config, or {model: name} with keys that differ, e.g. a seed or a checkpoint.
    """
    scheme = dict(config["scheme"])
    for key in LISTS:
        if scheme.get(key) is None:
            continue
        if not isinstance(scheme[key], list):
            raise UserError(f"scheme.{key} must list models, e.g. scheme.{key}=[resnet20], got {scheme[key]!r}")
        scheme[key] = [_written_out(entry, f"scheme.{key}") for entry in scheme[key]]
    return {**config, "scheme": scheme}


def _written_out(entry: Any, path: str) -> dict[str, Any]:
    own = dict(entry) if isinstance(entry, Mapping) else {"model": entry}
    if "_target_" in own:
        return own
    name = own.pop("model", None)
    if not isinstance(name, str):
        example = f"{path}=[resnet20] or [{{model: resnet20, seed: 1}}]"
        raise UserError(f"{path}: {entry!r} names no model; write e.g. {example}")
    return model_config(name, path) | own


def home(config: "RunConfig") -> Path:
    """Where the run of a config lies, `runs/<name>/<config hash>/`.

    Checkpoint files count by their content, and so do local folders of transformers and the source of what the person wrote.
    """

    def seen(network: Mapping[str, Any]) -> Mapping[str, Any]:
        file, folder = (Path(network.get(key) or "").expanduser() for key in ("checkpoint", "path"))
        known = {"checkpoint": file_hash(file)} if file.is_file() else {}
        if network.get("path") and (folder / "config.json").is_file():
            known["path"] = folder_content(folder)
        return {**network, **known}

    plain, scheme = config.plain, config.plain["scheme"]
    named = {key: [seen(network) for network in scheme[key]] for key in LISTS if scheme.get(key)}
    roles = {role: seen(plain[role]) for role in ("student", "teacher")}
    code = {"code": found} if (found := code_of(plain)) else {}
    return Path(config.paths.runs) / config.name / config_hash({**plain, **roles, **code, "scheme": scheme | named})


def finished(directory: Path) -> "Result | None":
    """The result of a run that has ended there, or None."""
    from distillab.core.result import FINISHED  # pydantic takes its time
    from distillab.core.result_reader import read

    result = read(directory / "result.json")[0]
    return result if result is not None and result.status == FINISHED else None
