"""The resolved config as frozen, typed objects: parsed once, by the command, and read by attribute from then on."""

import os
from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from distillab.core.allowed import (
    AmountOrNone,
    Choice,
    Count,
    CountOrNone,
    Flag,
    FolderName,
    Limit,
    Range,
    Words,
    spelled,
)
from distillab.core.errors import UserError
from distillab.core.exports import Formats, HubName
from distillab.core.group import Group, group
from distillab.core.instantiate import Target
from distillab.core.recipe import Protocol, Recipe
from distillab.core.run_identity import INIT, VARIED


def _text(value: Any) -> Any:
    """The text that a number or a truth value is written as: Hydra reads name=2024 as a number."""
    return spelled(value) if isinstance(value, bool | int | float) else value


def _listed(value: Any) -> Any:
    """A list of one for a single value, as in logger.tags=study."""
    return [value] if isinstance(value, str | bool | int | float) and value != "" else value


def _named(values: Any) -> Any:
    """The names of outputs: no two may be alike, or an output would stand for no class."""
    seen = [str(value) for value in values] if isinstance(values, list) else []
    if twice := [name for place, name in enumerate(seen) if name in seen[:place]]:
        raise ValueError(f"{{path}} names {twice[0]} twice: every output needs a name of its own, or {{path}}=null")
    return values


Text = Annotated[str, Words(), BeforeValidator(_text)]
Name = Annotated[str, FolderName(), BeforeValidator(_text)]
TextOrNone = Annotated[str | None, Words(null=True), BeforeValidator(_text)]
Texts = Annotated[list[Text], BeforeValidator(lambda value: [] if value is None else _listed(value))]
TextsOrNone = Annotated[Annotated[list[Text], Field(min_length=1)] | None, BeforeValidator(_listed)]
Names = Annotated[Annotated[list[Any], Field(min_length=1)] | None, BeforeValidator(_named)]
DDP = Choice("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
Seed = Annotated[int, Range(0, high=2**32 - 1, whole=True)]  # as numpy takes it
# The two of a normalisation, one number per channel.
Means = Annotated[Annotated[list[Annotated[float, Range()]], Field(min_length=1)] | None, BeforeValidator(_listed)]
Deviations = Annotated[
    Annotated[list[Annotated[float, Range(above=0)]], Field(min_length=1)] | None, BeforeValidator(_listed)
]

# A node with `_target_`, for `instantiate.build`.
Built = Annotated[Target, BeforeValidator(lambda node: Target.of(node) if isinstance(node, Mapping) else node)]


@group
class Paths(Group):
    """Folders: of the results, and of trained networks, teacher outputs and data sets that runs share."""

    PATH: ClassVar[str] = "paths"
    runs: Text = "runs"
    store: Text = "store"


@group
class Prices(Group):
    """Prices for the return on a distillation; None is unknown."""

    PATH: ClassVar[str] = "roi"
    price_per_hour: AmountOrNone = None
    requests_per_day: AmountOrNone = None

    @model_validator(mode="after")
    def _check_price(self) -> Self:
        if self.price_per_hour is None and self.requests_per_day is not None:
            what = "{path}.requests_per_day says nothing without a price of the machine"
            raise ValueError(what + "; set {path}.price_per_hour=…")
        return self


@group
class CacheConfig(Group):
    """The cache of teacher outputs; conf/train.yaml says what each is for."""

    PATH: ClassVar[str] = "cache"
    mode: Annotated[str, Choice("auto", "never", "require")] = "auto"
    dtype: Annotated[str, Choice("float16", "float32")] = "float16"
    top_k: CountOrNone = None
    limit_gb: AmountOrNone = 8
    # Of text: how many tokens are drawn at each position instead of the largest; the temperatures at which a strategy may
    # read what top_k leaves over (None: those of this one); and what it makes of that.
    draws: CountOrNone = None
    temperatures: Annotated[list[Annotated[float, Range(above=0)]] | None, BeforeValidator(_listed)] = None
    tail: Annotated[str, Choice("bucket", "renormalise", "both")] = "bucket"


@group
class LoraConfig(Group):
    """Adapters in the linear layers of a language model's blocks; their sum is scaled by alpha / rank."""

    PATH: ClassVar[str] = "lora"
    rank: Count = 8
    alpha: Annotated[float, Range(above=0)] = 16


@group
class AdaptConfig(Group):
    """What scripts/adapt.py takes beside a run's config; docs/adapt.md says what each is for."""

    student: Text
    old: TextOrNone = None
    anchor: Annotated[float | None, Range(above=0, null=True)] = 0.1
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    full: Flag = True


@group
class TrainerConfig(Group):
    """The devices and the options of the Lightning trainer; conf/trainer/default.yaml says what each is for."""

    PATH: ClassVar[str] = "trainer"
    accelerator: Annotated[str, Choice("auto", "cpu", "gpu", "cuda", "mps")] = "auto"
    devices: Any = 1  # a number, "auto" or -1 as given, a number once `commands.devices` has resolved it
    num_nodes: Count = 1
    strategy: Annotated[str, DDP] = "auto"
    channels_last: Flag = True
    compile: Annotated[bool | str, Choice(False, "student", "both")] = False
    sync_batchnorm: Flag = False
    deterministic: Annotated[bool | str, Choice(False, True, "warn")] = False
    log_every_n_steps: Annotated[int, Range(0, whole=True)] = 50
    limit_train_batches: Annotated[float | None, Limit()] = None
    limit_val_batches: Annotated[float | None, Limit()] = None
    progress_bar: Flag = True


@group
class LoggerConfig(Group):
    """Where learning curves go; all but `kind` is of Weights & Biases and MLflow."""

    PATH: ClassVar[str] = "logger"
    kind: Annotated[str, Choice("wandb", "csv", "tensorboard", "mlflow", "none")] = "none"
    project: TextOrNone = None
    entity: TextOrNone = None
    mode: Annotated[str, Choice("auto", "online", "offline", "disabled")] = "auto"
    uri: TextOrNone = None  # of MLflow's server
    tags: Texts = field(default_factory=list)


@group
class ModelConfig(Group):
    """A network in its role, student or teacher: the keys of the role, and the builder with its own arguments."""

    name: TextOrNone = None  # for tables; None is the class's
    checkpoint: TextOrNone = None  # a file of weights; None trains the network here
    pretrained: Flag = False
    classes: Names = None  # the names of its outputs, where their order is not the data's
    mean: Means = None  # of its input's channels; None is the data's, as for the next two
    std: Deviations = None
    input_size: CountOrNone = None  # the side in pixels
    stages: TextsOrNone = None  # module paths of its feature maps; None finds them, as for the next
    head: TextOrNone = None  # module path of its last linear layer
    # Of a student: `teacher` starts it from the teacher's weights; of its layers these alone, by number.
    init: Annotated[str | None, Choice("teacher", None)] = None
    keep_layers: list[Annotated[int, Range(0, whole=True)]] | None = None
    # Of a teacher that is trained here, with `recipe`.
    seed: Annotated[int | None, Range(0, high=2**32 - 1, whole=True, null=True)] = None
    samples: CountOrNone = None
    labelled: Annotated[float | None, Range(above=0, high=1, null=True)] = None
    corrupt_classes: Any = None
    # Of a frozen teacher: the type in which it is held, and whether it is split among the devices.
    dtype: Annotated[str | None, Choice("bfloat16", "float16", "float32", None)] = None
    shard: Annotated[bool | None, Choice(True, False, None)] = False
    # How a ready-made teacher is fitted to the data first: `head` fits a new head on its frozen features, `all` trains the
    # network with `recipe`, `none` reads its features alone; None fits a head where its own tells other classes apart.
    adapt: Annotated[str | None, Choice("head", "all", "none", None)] = None
    recipe: Recipe | None = None
    builder: Built = Target(None, {})
    expected_classes: int | None = field(default=None, repr=False, compare=False)  # of the data, as far as known yet
    plain: Any = field(default_factory=dict, repr=False, compare=False)  # all of this as the config has it

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """The network that a mapping of role keys and builder's arguments describes; raises UserError."""
        return super().of(_parts(given), path)


ROLE_KEYS = tuple(one.name for one in fields(ModelConfig) if one.repr and one.name != "builder")


LISTS = ("stages", "mean", "std")  # the keys of the role where one value stands for a list of it
PRECISIONS = {32: "32-true", 16: "16-mixed", 64: "64-true", "bf16": "bf16-mixed"}


def alike(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in which what can be spelled in two ways, as stages=layer2 and [layer2], is spelled in one.

    The same run then has one hash, and the same network one key in the store.
    """
    own = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            value = alike(value)
        elif isinstance(value, list):
            value = [alike(one) if isinstance(one, Mapping) else one for one in value]
        own[key] = value
    if "checkpoint" in own:  # a network
        own |= {key: _listed(own[key]) for key in LISTS if key in own}
    if "precision" in own and "epochs" in own:  # a recipe
        given = own["precision"]
        number = int(given) if isinstance(given, str) and given.isdecimal() else given
        if own.get("steps") is None:
            own.pop("steps", None)
        own["precision"] = PRECISIONS.get(number, given) if not isinstance(given, bool | list | dict) else given
    return own


def _parts(given: Any) -> Any:
    """A network's config with the builder's keys apart."""
    if not isinstance(given, Mapping):
        return given
    own = {key: given[key] for key in given if key in ROLE_KEYS}
    rest = {key: given[key] for key in given if key not in ROLE_KEYS}
    return own | {"builder": replace(Target.of(rest), beside=ROLE_KEYS), "plain": given}


Network = Annotated[ModelConfig, BeforeValidator(_parts)]


def _in_home(node: Any, path: str = "") -> Any:
    """A config in which every path of the form `~/…` or `~user/…` lies in the home folder."""
    if isinstance(node, Mapping):
        return {key: _in_home(value, f"{path}.{key}".lstrip(".")) for key, value in node.items()}
    if isinstance(node, list):
        return [_in_home(value, path) for value in node]
    if not isinstance(node, str) or not (node == "~" or (node.startswith("~") and "/" in node)):
        return node
    if (found := os.path.expanduser(node)) == node:
        raise UserError(f"{path}: {node} lies in a home folder that is not known; write it out: {path}=/…")
    return found


@group
class RunConfig(Group):
    """A run's config; conf/train.yaml says what each key is for. Lies in runs/<name>/<hash of `plain`>.

    `data`, `task` and `scheme` are built by `instantiate.build`, `strategy` by `Strategy.of`; `plain` is all of this as
    the config has it, for the hash and the result: there a `~` stays, so that the hash is the same for everyone.
    `plain["seed"]` is the number of the run; `seed` is the student's own, 0 in every run where `vary` leaves out `init`.
    """

    name: Name
    seed: Seed
    baseline: Flag
    equal_compute: Annotated[bool | str, Choice(True, "multiply_adds", False)]  # charged by seconds, by arithmetic, not
    rerun: Flag
    quiet: Flag
    paths: Paths
    roi: Prices
    cache: CacheConfig
    student: Network
    teacher: Network
    data: Built
    recipe: Recipe
    task: Built
    scheme: Built
    protocol: Protocol
    trainer: TrainerConfig
    logger: LoggerConfig
    strategy: dict[str, Any]
    doctor: Flag = True
    export: Formats = field(default_factory=list)
    push_to_hub: HubName = None
    license: TextOrNone = None
    vary: Annotated[list[Annotated[str, Choice(*VARIED)]], Field(min_length=1), BeforeValidator(_listed)] = field(
        default_factory=lambda: [*INIT]
    )
    plain: Any = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """The config that plain, resolved Python describes; raises UserError."""
        if isinstance(given, cls):
            return given
        plain = alike(given or {})
        own = {} if "init" in (plain.get("vary") or INIT) else {"seed": 0}
        return super().of({**_in_home(plain), **own, "plain": plain}, path)

    def on_devices(self, count: int) -> Self:
        """The same config for so many devices."""
        plain = {**self.plain, "trainer": {**self.plain["trainer"], "devices": count}}
        return replace(self, trainer=replace(self.trainer, devices=count), plain=plain)
