"""The resolved config as frozen, typed objects: parsed once, by the command, and read by attribute from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, model_validator

from distillab.core.allowed import FLAG, Choice, Range
from distillab.core.group import Group, group
from distillab.core.instantiate import Target
from distillab.core.recipe import Protocol, Recipe

Flag = Annotated[bool, FLAG]
Price = Annotated[float | None, Range(0, null=True)]
Batches = Annotated[float | None, Range(0, null=True)]
Text = Annotated[str, BeforeValidator(str)]  # Hydra reads name=2024 as a number


def _target(node: Any) -> Any:
    return Target.of(node) if isinstance(node, Mapping) else node


Built = Annotated[Target, BeforeValidator(_target)]  # a node with `_target_`, for `instantiate.build`


@group
class Paths(Group):
    """Folders: of the results, and of trained networks, teacher outputs and data sets that runs share."""

    PATH: ClassVar[str] = "paths"

    runs: str = "runs"
    store: str = "store"


@group
class Roi(Group):
    """Prices for the return on a distillation; None is unknown."""

    PATH: ClassVar[str] = "roi"

    price_per_hour: Price = None
    requests_per_day: Price = None

    @model_validator(mode="after")
    def _check_price(self) -> Roi:
        if self.price_per_hour is None and self.requests_per_day is not None:
            raise ValueError(
                "{path}.requests_per_day says nothing without a price of the machine; set {path}.price_per_hour=…"
            )
        return self


@group
class CacheConfig(Group):
    """The cache of teacher outputs.

    Attributes:
        mode: `never` runs the teacher at every step, `require` refuses to run it.
        dtype: in which outputs are kept.
        top_k: classes kept per sample; None keeps all.
        limit_gb: of all caches together; None is no limit.
    """

    PATH: ClassVar[str] = "cache"

    mode: Annotated[str, Choice("auto", "never", "require")] = "auto"
    dtype: Annotated[str, Choice("float16", "float32")] = "float16"
    top_k: Annotated[int | None, Range(1, whole=True, null=True)] = None
    limit_gb: Annotated[float | None, Range(0, null=True)] = 8


@group
class TrainerConfig(Group):
    """The devices and the options of the Lightning trainer; conf/trainer/default.yaml says what each is for."""

    PATH: ClassVar[str] = "trainer"

    accelerator: str = "auto"
    devices: Any = 1  # a number, "auto" or -1 as given, a number once `commands.devices` has resolved it
    num_nodes: Annotated[int, Range(1, whole=True)] = 1
    strategy: str = "auto"
    channels_last: Flag = True
    compile: Annotated[bool | str, Choice(False, "student", "both")] = False
    sync_batchnorm: Flag = False
    deterministic: Annotated[bool | str, Choice(False, True, "warn")] = False
    log_every_n_steps: Annotated[int, Range(0, whole=True)] = 50
    limit_train_batches: Batches = None
    limit_val_batches: Batches = None
    progress_bar: Flag = True


@group
class LoggerConfig(Group):
    """Where learning curves go; all but `kind` is of Weights & Biases."""

    PATH: ClassVar[str] = "logger"

    kind: Annotated[str, Choice("wandb", "csv", "tensorboard", "none")] = "none"
    project: str | None = None
    entity: str | None = None
    mode: Annotated[str, Choice("auto", "online", "offline", "disabled")] = "auto"
    tags: list[Any] = field(default_factory=list)


@group
class ModelConfig(Group):
    """A network in its role, student or teacher: the keys of the role, and the builder with its own arguments.

    Attributes:
        name: for tables; None is the class's.
        checkpoint: a file of weights; None trains it here.
        pretrained: take the builder's own weights.
        classes: the names of its outputs, where their order is not the data's.
        mean, std: of its input's channels; None is the data's.
        input_size: side in pixels to which images are resized; None is the data's.
        stages: module paths of its feature maps; None finds them.
        head: module path of its last linear layer; None finds it.
        seed: of a teacher's first weights and training.
        samples, labelled, corrupt_classes: what a teacher that is trained here learns from.
        dtype: in which a frozen teacher is held.
        shard: split a frozen teacher among the devices.
        recipe: of a teacher that is trained here.
        builder: what makes the network.
        plain: all of this as the config has it.
    """

    name: str | None = None
    checkpoint: str | None = None
    pretrained: Flag = False
    classes: list[Any] | None = None
    mean: list[Any] | None = None
    std: list[Any] | None = None
    input_size: Annotated[int | None, Range(1, whole=True, null=True)] = None
    stages: list[str] | None = None
    head: str | None = None
    seed: Annotated[int | None, Range(whole=True, null=True)] = None
    samples: Annotated[int | None, Range(1, whole=True, null=True)] = None
    labelled: Annotated[float | None, Range(above=0, high=1, null=True)] = None
    corrupt_classes: Any = None
    dtype: Annotated[str | None, Choice("bfloat16", "float16", "float32", None)] = None
    shard: Annotated[bool | None, Choice(True, False, None)] = False
    recipe: Recipe | None = None
    builder: Built = Target(None, {})
    plain: Any = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """The network that a mapping of role keys and builder's arguments describes; raises UserError."""
        return super().of(_parts(given), path)


ROLE_KEYS = tuple(one.name for one in fields(ModelConfig) if one.name not in ("builder", "plain"))


def _parts(given: Any) -> Any:
    """A network's config with the builder's keys apart."""
    if not isinstance(given, Mapping):
        return given
    own = {key: value for key, value in given.items() if key in ROLE_KEYS}
    rest = {key: value for key, value in given.items() if key not in ROLE_KEYS}
    return own | {"builder": Target.of(rest), "plain": given}


Network = Annotated[ModelConfig, BeforeValidator(_parts)]


@group
class RunConfig(Group):
    """A run's config.

    Attributes:
        name: runs/<name>/<hash of the config>.
        seed: of the student's first weights, batch order and dropout.
        baseline: also train the student without a teacher.
        equal_compute: and once more, for as many epochs as the teacher's outputs would have paid for.
        rerun: repeat a run that has its result.
        strategy: terms by name, and `phases`; `Strategy.of` builds it.
        data, task, scheme: what `instantiate.build` builds.
        plain: all of this as the config has it, for the hash and the result.
    """

    name: Text
    seed: Annotated[int, Range(whole=True)]
    baseline: Flag
    equal_compute: Flag
    rerun: Flag
    paths: Paths
    roi: Roi
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
    plain: Any = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None = None, path: str | None = None) -> Self:
        """The config that plain, resolved Python describes; raises UserError."""
        return given if isinstance(given, cls) else super().of({**(given or {}), "plain": given}, path)

    def on_devices(self, count: int) -> RunConfig:
        """The same on so many devices."""
        trainer = {**self.plain["trainer"], "devices": count}
        plain = {**self.plain, "trainer": trainer}
        return replace(self, trainer=replace(self.trainer, devices=count), plain=plain)
