"""The typed config: what it holds, that nothing is converted, and the one line about each thing it refuses."""

import dataclasses
import json

import pytest
from omegaconf import OmegaConf

from distillab.commands.composition import compose, conf_dir
from distillab.commands.invocation import home as run_home
from distillab.commands.invocation import parse
from distillab.core.allowed import Choice, Range
from distillab.core.configuration import (
    ROLE_KEYS,
    CacheConfig,
    LoggerConfig,
    ModelConfig,
    RunConfig,
    TrainerConfig,
)
from distillab.core.errors import UserError
from distillab.core.instantiate import MOVED, RENAMED, Target, build, locate
from distillab.core.recipe import Protocol, Recipe


def plain(*overrides):
    return OmegaConf.to_container(compose(list(overrides)), resolve=True)


def refusal(make):
    with pytest.raises(UserError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shipped(group, name):
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"))


def test_every_part_is_typed_frozen_and_beside_the_plain_config():
    config = plain("teacher=resnet8", "teacher.width=2", "recipe.epochs=3", "cache.limit_gb=null")
    run = parse(config)
    assert (run.recipe.epochs, run.teacher.recipe.epochs, run.cache.limit_gb) == (3, 8, None)
    assert run.teacher.builder.target == "distillab.models.zoo.cifar_resnet.CifarResNet"
    assert run.teacher.builder.arguments == {"depth": 8, "width": 2, "stem_channels": 16}
    assert run.teacher.stages == ["layer1", "layer2", "layer3"] and run.student.seed is None
    assert run.data.get("split_seed") == 0 and run.scheme == Target("distillab.schemes.offline.Offline", {})
    assert run.plain == config and run.teacher.plain == config["teacher"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.recipe.epochs = 4
    assert RunConfig.of(run) is run and ModelConfig.of(run.teacher) is run.teacher


def test_the_number_of_devices_is_set_in_both_views():
    run = parse(plain("trainer=ddp", "trainer.devices=auto")).on_devices(3)
    assert run.trainer.devices == run.plain["trainer"]["devices"] == 3
    assert run.trainer == TrainerConfig.of(run.plain["trainer"])


def test_values_stay_as_they_are_given():
    """A store's key is their JSON, in which 0 is not 0.0."""
    recipe = Recipe.of({"lr": 1, "weight_decay": 0, "milestones": [1, 0.5]})
    kept = [recipe.lr, recipe.weight_decay, recipe.milestones, Protocol.of(shipped("protocol", "paper")).validation]
    assert json.dumps(kept) == "[1, 0, [1, 0.5], 0]"
    assert parse(plain("name=2024")).name == "2024"


@pytest.mark.parametrize(
    ("group", "name", "kind"), [("recipe", "default", Recipe), ("trainer", "default", TrainerConfig)]
)
def test_the_defaults_are_those_of_the_shipped_file(group, name, kind):
    assert kind.of(shipped(group, name)) == kind() == kind.of(None)


def test_the_cache_has_the_defaults_of_the_command():
    assert CacheConfig.of(plain()["cache"]) == CacheConfig()


@pytest.mark.parametrize("name", [path.stem for path in (conf_dir() / "logger").glob("*.yaml")])
def test_every_logger_is_one(name):
    assert LoggerConfig.of(shipped("logger", name)).kind == name


def test_keys_of_the_role_are_those_that_a_network_is_not_built_with():
    assert {"checkpoint", "pretrained", "classes", "mean", "std", "input_size", "stages", "head", "seed"} < set(
        ROLE_KEYS
    )
    assert set(plain()["teacher"]) - set(ROLE_KEYS) == {"_target_", "architecture", "stem"}


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["recipe.epochs=0"], "recipe.epochs must be a whole number from 1, or null, got 0; set recipe.epochs=8"),
        (["recipe.epochs=true"], "recipe.epochs must be a whole number from 1, or null, got true; set recipe.epochs=8"),
        (["teacher.recipe.lr=nan"], "teacher.recipe.lr must be a number from 0, got nan; set teacher.recipe.lr=0.003"),
        (["recipe.schedule=steps"], 'recipe.schedule must be one of one_cycle, cosine, step, constant, got "steps"; '
         "set recipe.schedule=one_cycle"),
        (["+recipe.milestones=half"], "recipe.milestones must be a list, got half; "
         "set recipe.milestones=[0.625,0.75,0.875]"),
        (["teacher.recipe.optimizer=dot", "teacher.recipe.clip=1"],
         "teacher.recipe.optimizer=dot takes no clip=1; set teacher.recipe.clip=null"),
        (["protocol.select=first"], 'protocol.select must be one of best, last, got "first"; set protocol.select=best'),
        (["protocol=paper", "protocol.validation=0.1"],
         "paper trains on all samples (protocol.validation=0), or choose protocol=standard"),
        (["trainer.compile=0"], "trainer.compile must be one of false, student, both, got 0; set trainer.compile=false"),
        (["trainer.limit_train_batches=-1"], "trainer.limit_train_batches must be a whole number from 1, a share "
         "above 0 up to 1.0, or null, got -1; set trainer.limit_train_batches=null"),
        (["cache.mode=always"], 'cache.mode must be one of auto, never, require, got "always"; set cache.mode=auto'),
        (["roi.requests_per_day=5"],
         "roi.requests_per_day says nothing without a price of the machine; set roi.price_per_hour=…"),
        (["teacher.dtype=int8"],
         'teacher.dtype must be one of bfloat16, float16, float32 or null, got "int8"; set teacher.dtype=bfloat16'),
        (["teacher.adapt=hed"], 'teacher.adapt must be one of head, all, none or null, got "hed"; set teacher.adapt=head'),
        (["teacher.adapt=full"], 'teacher.adapt must be one of head, all, none or null, got "full"; set teacher.adapt=head'),
        (["student.classes=10"], "student.classes must be a list, got 10; set student.classes=null"),
        (["paths.runs=null"], "paths.runs must be text, not empty, got null; set paths.runs=runs"),
        (["paths.store="], 'paths.store must be text, not empty, got ""; set paths.store=store'),
        (["name="], 'name must be the name of one folder'),
        (["teacher.checkpoint="], 'teacher.checkpoint must be text, not empty, or null, got ""; set teacher.checkpoint=null'),
        (["seed=-1"], "seed must be a whole number from 0 up to 4294967295, got -1"),
        (["teacher.seed=1e3"], "teacher.seed must be a whole number from 0 up to 4294967295, or null, got 1000.0; set"),
        (["recipe.clip=0"], "recipe.clip must be a number above 0, or null, got 0; set recipe.clip=null"),
        (["recipe.warmup=2"], "recipe.warmup must be a number from 0 up to 1, got 2.0; set recipe.warmup=0.3"),
        (["recipe.precision=16-true"], "recipe.precision must be one of 32-true, 32, bf16-mixed, bf16, 16-mixed, 16, "
         '64-true, 64, got "16-true"; set recipe.precision=32-true'),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches must be a whole number from 1, a share above 0"),
        (["trainer.limit_train_batches=1.5"], "trainer.limit_train_batches must be a whole number from 1, a share"),
        (["trainer.accelerator=tpu"], 'trainer.accelerator must be one of auto, cpu, gpu, cuda, mps, got "tpu"; set'),
        (["trainer.strategy=fsdp"], "trainer.strategy must be one of auto, ddp, ddp_find_unused_parameters_true"),
        (["student.mean=[a]"], "student.mean.0 must be a number, got a"),
        (["student.std=[]"], "student.std must be a list that is not empty, got []; set student.std=null"),
    (["teacher.classes=[]"], "teacher.classes must be a list that is not empty, got []; set teacher.classes=null"),
    (["student.stages=[]"], "student.stages must be a list that is not empty, got []; set student.stages=null"),
    (["teacher.classes=[a,b,a]"], "teacher.classes names a twice: every output needs a name of its own, or teacher.cla"),
    (["student.std=0"], "student.std.0 must be a number above 0, got 0"),
        (["~seed"], "seed is missing: set seed=…"),
        (["logger=[]"], "logger is empty: choose one of csv, mlflow, none, tensorboard, wandb with logger=…"),
        (["+trainer.device=2"], 'trainer has no "device"; did you mean "devices"? (allowed: accelerator, devices'),
        (["+teacher.recipe.epoch=2"], 'teacher.recipe has no "epoch"; did you mean "epochs"?'),
        (["+note=x"], 'the config has no "note" (allowed: name, seed'),
        (["+protocol._target_=distillab.protocol.Protocol"], "protocol._target_ has gone; remove it with ~protocol"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_one_line(overrides, line):
    assert refusal(lambda: parse(plain(*overrides))).startswith(line)


def test_one_value_is_a_list_of_it_where_a_list_is_meant():
    """`logger.tags=study` once was s, t, u, d and y to what read it, `logger.tags=null` a TypeError."""
    run = parse(plain("logger.tags=study", "student.stages=layer2", "student.mean=0.5", "teacher.stages=[0,layer1]"))
    assert run.logger.tags == ["study"] and run.student.mean == [0.5]
    assert run.student.stages == ["layer2"] and run.teacher.stages == ["0", "layer1"]
    assert parse(plain("logger.tags=null")).logger.tags == []
    assert LoggerConfig.of({"kind": "wandb", "tags": [2024, True], "project": 3}).tags == ["2024", "true"]


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("student.stages=layer2", "student.stages=[layer2]"),
        ("teacher.mean=0.5", "teacher.mean=[0.5]"),
        ("recipe.precision=32", "recipe.precision=32-true"),
        ("teacher.recipe.precision=bf16", "teacher.recipe.precision=bf16-mixed"),
        ("scheme.teachers=[{model:resnet8,stages:layer2}]", "scheme.teachers=[{model:resnet8,stages:[layer2]}]"),
    ],
)
def test_what_can_be_spelled_in_two_ways_is_one_run(word, other):
    first, second = (parse(plain("scheme=ensemble", one)) for one in (word, other))
    assert run_home(first) == run_home(second) != run_home(parse(plain("scheme=ensemble", "seed=1")))
    assert first.plain == second.plain and first.student.plain == second.student.plain


def test_a_whole_number_may_be_larger_than_any_float():
    assert Range(1, whole=True).allows(10**400) and not Range(1, high=9, whole=True).allows(10**400)


def test_a_renamed_key_and_a_moved_class_give_their_new_names(monkeypatch):
    monkeypatch.setitem(RENAMED, "trainer.gpus", "trainer.devices")
    line = refusal(lambda: parse(plain("+trainer.gpus=2")))
    assert line == "trainer.gpus is now trainer.devices: trainer.devices=…"
    line = refusal(lambda: build({"_target_": "distillab.models.cifar_resnet.CifarResNet"}, "student"))
    new = "distillab.models.zoo.cifar_resnet.CifarResNet"
    assert line == f"student._target_: distillab.models.cifar_resnet.CifarResNet is now {new}: student._target_={new}"
    assert "sources.Digits" in refusal(lambda: locate("distillab.data.images.Digits", "data"))


def complaining(number=0):
    raise UserError(f"data.number must be above 0, got {number}")


def test_an_error_that_names_its_key_gets_no_second_prefix():
    """`data: data.validation …` said the place twice."""
    line = refusal(lambda: build({"_target_": f"{__name__}.complaining"}, "data"))
    assert line == "data.number must be above 0, got 0"
    assert refusal(lambda: build({"_target_": f"{__name__}.complaining"}, "scheme")).startswith("scheme: data.number")


@pytest.mark.parametrize("module", MOVED.values())
def test_every_new_module_is_there(module):
    from importlib.util import find_spec

    assert find_spec(module) is not None


@pytest.mark.parametrize(
    ("allowed", "words", "inside", "outside"),
    [
        (Range(1, whole=True), "a whole number from 1", [1, 7], [0, 1.0, True, "1", None]),
        (Range(above=0, high=1, null=True), "a number above 0 up to 1, or null", [1, 0.5, None], [0, 1.1]),
        (Range(0, below=1), "a number from 0 below 1", [0, 0.99], [1, float("nan"), float("inf"), -1]),
        (Choice(False, "a", None), "one of false, a or null", [False, "a", None], [0, True, "b"]),
    ],
)
def test_what_is_allowed_is_said_and_checked(allowed, words, inside, outside):
    assert allowed.expected == words
    for value in inside:
        assert allowed.check(value, "key") is value
    for value in outside:
        assert refusal(lambda value=value: allowed.check(value, "key", 3)).endswith("; set key=3")


def test_a_tilde_is_the_home_folder_in_every_path_and_the_same_hash_for_everyone(monkeypatch, tmp_path):
    words = [
        "paths.runs='~/r'",
        "paths.store='~'",
        "data=folder",
        "data.root='~/images'",
        "teacher.checkpoint='~/t.pt'",
    ]
    words += ["scheme=ensemble", "scheme.teachers=[{model: resnet20, checkpoint: '~/t.pt'}]", "+student.weights='~/w'"]
    folders = []
    for user in ("one", "other"):
        monkeypatch.setenv("HOME", str(home := tmp_path / user))
        home.mkdir()
        (home / "t.pt").write_text("weights")
        run = parse(plain(*words))
        seen = [run.paths.runs, run.paths.store, run.data.get("root"), run.data.get("cache_dir")]
        seen += [
            run.teacher.checkpoint,
            run.scheme.get("teachers")[0]["checkpoint"],
            run.student.builder.get("weights"),
        ]
        assert seen == [f"{home}{rest}" for rest in ("/r", "", "/images", "", "/t.pt", "/t.pt", "/w")]
        folders.append(run_home(run))
    assert folders[0].name == folders[1].name and folders[0].is_relative_to(tmp_path / "one" / "r")
    assert refusal(lambda: parse(plain("paths.store='~nobody-has-this-name/x'"))).startswith("paths.store: ~nobody")
    assert parse(plain("logger=wandb", "logger.tags=['~a']")).logger.tags == ["~a"]


@pytest.mark.parametrize(
    "name", ["../../esc", "/tmp/x", "a/b", "..", ".", " ", "", "a\\b", "a\nb", "n" * 300, "\ud800"]
)
def test_a_name_is_that_of_one_folder(name):
    """Any other would put the run where no page looks for it, or outside of `paths.runs`."""
    config = plain() | {"name": name}
    assert refusal(lambda: parse(config)).startswith("name must be the name of one folder")
    assert parse(config | {"name": "a run, 2"}).name == "a run, 2"
