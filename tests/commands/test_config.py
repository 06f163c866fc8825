"""Every file in conf/ composes and is what its target takes; roles, lists and one-line errors."""

import dataclasses
import functools
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from distillab.commands import composition as config
from distillab.commands.error_line import one_line
from distillab.commands.invocation import home, parse
from distillab.commands.own_files import check_own_files
from distillab.core.configuration import (
    ROLE_KEYS,
    CacheConfig,
    LoggerConfig,
    ModelConfig,
    Paths,
    Prices,
    TrainerConfig,
)
from distillab.core.errors import UserError
from distillab.core.instantiate import locate
from distillab.core.recipe import Protocol, Recipe
from distillab.models.build import build_model
from distillab.models.build_language_model import build_language_model
from distillab.schemes.pretrain import ALONE
from distillab.strategies.strategy import Strategy

CONF = config.conf_dir()
GROUPS = {path.name: sorted(p.stem for p in path.glob("*.yaml")) for path in CONF.iterdir() if path.is_dir()}
CHOICES = [(group, name) for group in sorted(GROUPS) for name in GROUPS[group]]
NEEDED = {
    "custom": ["{}._target_=distillab.models.zoo.cifar_resnet.CifarResNet", "+{}.depth=8"],
    "torchvision": ["{}.architecture=mobilenet_v3_small"],
    "timm": ["{}.architecture=test_resnet"],
    "folder": ["data.root=here"],
    "imagenet": ["data.root=here"],
    "imagenet_pair": ["data.root=here"],
    "torchdistill_pair": ["data.root=here"],
    "torchdistill_kd": ["data.root=here"],
    "torchdistill_attention": ["data.root=here"],
    "text": ["data.path=here"],
    "synthetic": ["data.path=here", "data.root=there"],
    "causal_lm": ["{}.path=here"],
}
OF_TEXT_ALONE = {"attention_map": ["task=causal_lm"]}  # strategies


def composed(*overrides):
    return OmegaConf.to_container(config.compose(list(overrides)), resolve=True)


composed_once = functools.cache(composed)  # for what only looks at it


def test_the_groups_are_found():
    assert set(GROUPS) == {
        "data",
        "debug",
        "experiment",
        "launcher",
        "logger",
        "model",
        "protocol",
        "recipe",
        "scheme",
        "strategy",
        "sweep",
        "task",
        "trainer",
    }
    assert len(CHOICES) > 40


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_file_composes(group, name):
    roles = config.ROLES if group == "model" else [group]
    for role in roles:
        needed = NEEDED.get(name, []) if group in ("model", "data", "experiment") else []
        needed = OF_TEXT_ALONE.get(name, needed) if group == "strategy" else needed
        cfg = composed_once(f"{role}={name}", *(text.format(role) for text in needed))
        assert cfg["strategy"] and cfg["student"]["_target_"]


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ([], (0.1, 1.0)),  # digits as shipped
        (["data.labelled=1.0"], (1.0, 1.0)),
        (["data=folder", "data.root=here"], (1.0, 1.0)),
        (["data=folder", "data.root=here", "data.labelled=0.2"], (0.2, 0.2)),  # nobody has more labels than the person
        (["sweep=fewer_labels", "data.labelled=0.2"], (0.2, 0.2)),
        # Teachers that are not trained yet cannot answer for a label.
        *((["scheme=" + name], (1.0, 1.0)) for name in ("mutual", "ema", "self")),
        *((["scheme=" + name], (0.1, 1.0)) for name in ("offline", "ensemble", "born_again", "assistant")),
    ],
)
def test_the_labels_that_student_and_teacher_know(words, known):
    cfg = composed(*words)
    assert (cfg["data"]["labelled"], cfg["teacher"]["labelled"]) == known


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in CHOICES if g in ("data", "scheme", "strategy")])
def test_every_key_is_an_argument_of_its_target(group, name):
    needed = OF_TEXT_ALONE if group == "strategy" else NEEDED
    node = composed_once(f"{group}={name}", *needed.get(name, []))[group]
    nodes = {k: v for k, v in node.items() if k != "phases"}.values() if group == "strategy" else [node]
    for one in nodes:
        target = locate(one["_target_"], group)
        classes = inspect.getmro(target) if inspect.isclass(target) else [target]
        allowed = {n for c in classes for n in inspect.signature(c).parameters}
        assert set(one) - {"_target_"} <= allowed


@pytest.mark.parametrize("name", GROUPS["recipe"])
def test_every_recipe_is_one(name):
    assert Recipe.of(composed_once(f"recipe={name}")["recipe"]).epochs >= 1


@pytest.mark.parametrize("name", GROUPS["protocol"])
def test_every_protocol_is_one(name):
    assert Protocol.of(composed_once(f"protocol={name}")["protocol"]).name == name


@pytest.mark.parametrize("name", GROUPS["trainer"])
def test_every_trainer_is_one(name):
    assert TrainerConfig.of(composed_once(f"trainer={name}")["trainer"]).num_nodes == 1


@pytest.mark.parametrize("name", GROUPS["strategy"])
def test_every_strategy_instantiates(name):
    cfg = composed_once(f"strategy={name}", *OF_TEXT_ALONE.get(name, []))
    assert list(Strategy.of(cfg["strategy"]).terms) == [k for k in cfg["strategy"] if k != "phases"]


OF_TEXT = ("causal_lm", "llama_170k", "llama_1m4")


@pytest.mark.parametrize("name", OF_TEXT[1:])
def test_every_language_model_instantiates(name):
    cfg = composed_once("data=sotu", f"student={name}")["student"]
    model = build_language_model(ModelConfig.of(cfg, "student"), "student", 300, 64, seed=0)
    assert model.info.outputs == 300 and model.info.positions == 64 and len(model.info.stages) >= 2


OF_FOLDERS = ("transformers",)  # tests/models/test_transformers_vision.py


@pytest.mark.parametrize("name", sorted({*GROUPS["model"]} - {"resnet32x4", "resnet110", *OF_TEXT, *OF_FOLDERS}))
@pytest.mark.parametrize("role", config.ROLES)
def test_every_model_instantiates_in_both_roles(name, role):
    if role == "teacher" and name not in ("resnet8", "resnet18"):
        return  # one small and one large are enough for the role
    cfg = composed_once(f"{role}={name}", *(text.format(role) for text in NEEDED.get(name, [])))[role]
    model = build_model(
        ModelConfig.of(cfg, role), role, [str(i) for i in range(7)], (1, 32, 32), mean=[0.5], std=[0.5], seed=0
    )
    assert model.info.outputs == 7 and len(model.info.stages) >= 2 and model.info.head


@pytest.mark.parametrize("role", config.ROLES)
def test_the_custom_model_takes_further_keys_without_a_plus(role):
    own = [f"{role}=custom", f"{role}._target_=my.Net"]
    given = composed(*own, f"{role}.width=32", f"{role}.options={{a: 1}}", f"+{role}.depth=2")[role]
    assert (given["width"], given["options"], given["depth"]) == (32, {"a": 1}, 2)
    assert "stags" in parse(composed(*own, f"{role}.stags=[a]")).plain[role]  # whether Net takes it is found by `build`
    other = "student" if role == "teacher" else "teacher"
    for word in (f"{other}.width=32", f"{role}.recipe.width=32", "widht=32"):
        with pytest.raises((HydraException, UserError)):
            parse(composed(*own, word))


@pytest.mark.parametrize(
    "word",
    ["recipe.milestones=[0.5,0.7]", "teacher.recipe.milestones=[0.5]", "recipe.gamma=0.5", "logger.entity=me",
     "student.labelled=0.5", "teacher.labelled=0.5", "strategy.kd.reduction=mean", "student.groups=2", "teacher.dropout=0",
     "student.dpeth=3", "recipe.gama=1", "strategy.hint.connector_seed=1"],
)  # fmt: skip
def test_which_keys_without_a_line_in_a_file_need_no_plus(word):
    """Those of the typed config, of a target's signature, and of the architecture to which a builder passes the rest on."""
    key, _, value = word.partition("=")
    *parents, last = key.split(".")
    known = word.startswith(("recipe.mil", "teacher.", "recipe.gamma", "logger", "student.groups"))
    words = [word, "student=resnet18", "teacher=torchvision", "teacher.architecture=mobilenet_v3_small"]
    if not known:
        with pytest.raises(HydraException):
            composed(*words)
        return
    node = composed(*words)
    for parent in parents:
        node = node[parent]
    assert str(node[last]).replace(" ", "") == value


def test_every_typed_key_of_a_group_can_be_set():
    kinds = (Recipe, Protocol, TrainerConfig, LoggerConfig, CacheConfig, Paths, Prices)
    words = [f"{kind.PATH}.{one.name}=1" for kind in kinds for one in dataclasses.fields(kind)]
    words += [f"teacher.recipe.{one.name}=1" for one in dataclasses.fields(Recipe)]
    composed(*words, *(f"teacher.{key}=null" for key in ROLE_KEYS if key != "recipe"))


def test_a_number_keeps_the_kind_that_its_file_gives_it():
    """The same run has one hash, however its numbers are typed."""
    first, second = (parse(composed(f"strategy.kd.temperature={n}", f"recipe.lr={n}")) for n in ("2", "2.0"))
    assert home(first) == home(second) and first.recipe.lr == 2
    cfg = composed("trainer.limit_train_batches=1", "recipe.epochs=3")
    assert type(cfg["trainer"]["limit_train_batches"]) is type(cfg["recipe"]["epochs"]) is int


def test_none_is_what_is_trained_alone():
    assert composed("strategy=none")["strategy"] == ALONE


def test_a_list_composes_in_order_and_disagreements_are_said():
    cfg = composed("strategy=[kd,hint]")
    assert list(cfg["strategy"]) == ["ce", "kd", "hint"] and cfg["strategy"]["ce"]["weight"] == 1.0
    assert config.strategy_label(cfg["strategy"]) == "kd+hint"
    assert [line.split(";")[0] for line in config.strategy_conflicts()] == [
        "strategy.ce.weight: kd says 0.1, hint says 1.0"
    ]


def test_the_networks_that_a_scheme_names_leave_the_record_of_strategies_alone():
    cfg = composed("strategy=[hint,attention]", "scheme=ensemble")
    said = config.strategy_label(cfg["strategy"]), config.strategy_conflicts()
    assert [one["depth"] for one in parse(cfg).scheme.arguments["teachers"]] == [20, 32]
    assert (config.strategy_label(cfg["strategy"]), config.strategy_conflicts()) == said


def test_of_two_orders_of_phases_the_last_is_said():
    composed("strategy=[ft,ab]")
    assert config.strategy_conflicts() == [
        "strategy.phases: ft and ab have their own; those of ab it is, and a term that they do not name acts in the last "
        "(strategy.phases=[…] decides)"
    ]
    composed("strategy=[ft,attention]")
    assert config.strategy_conflicts() == []


def test_overrides_reach_terms_roles_and_recipes():
    cfg = composed(
        "strategy=kd",
        "strategy.kd.temperature=2",
        "~strategy.ce",
        "student=resnet8",
        "student.width=2",
        "recipe.epochs=3",
    )
    assert list(cfg["strategy"]) == ["kd"] and cfg["strategy"]["kd"]["temperature"] == 2
    assert cfg["student"]["width"] == 2 and cfg["recipe"]["epochs"] == 3 and cfg["teacher"]["recipe"]["epochs"] == 8
    assert composed("recipe=cifar")["teacher"]["recipe"]["epochs"] == 240


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("strategy=hin", 'strategy has no "hin"; did you mean "hint"? (allowed: ab'),
        (
            "strategy=kd,hint",
            "strategy=kd,hint has several values: -m strategy=kd,hint makes a run of each, 'strategy=[kd,hint]' is one list",
        ),
        ("strategy=[kd,hin]", 'strategy has no "hin"'),
        ("student=resnet19", 'student has no "resnet19"'),
        ("data=digit", 'data has no "digit"; did you mean "digits"?'),
        ("strategy.kd.temprature=2", 'strategy.kd has no "temprature"; did you mean "temperature"?'),
        ("recipe.epoch=2", 'recipe has no "epoch"; did you mean "epochs"?'),
    ],
)
def test_a_wrong_choice_is_one_line(override, said):
    with pytest.raises(HydraException) as caught:
        config.compose([override])
    line = one_line(caught.value)
    assert line.startswith(said) and "\n" not in line


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["strategy.kd.temperature=0"], "strategy.kd: temperature must be a number above 0, got 0"),
        (["strategy.kd.temperature=abc"], "strategy.kd: temperature must be a number, got 'abc'"),
        (["strategy.kd.weight={value:1,warm:2}"], "strategy.kd: weight takes a number or"),
    ],
)
def test_a_wrong_number_is_one_line(overrides, said):
    with pytest.raises(UserError) as caught:
        Strategy.of(composed(*overrides)["strategy"])
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("key", ["epochs", "batch_size"])
def test_a_recipe_refuses_zero(key):
    with pytest.raises(UserError, match=rf"recipe\.{key} must be a whole number from 1(, or null)?, got 0"):
        Recipe.of({key: 0})


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_help_and_config_import_nothing_heavy(words):
    code = (
        "import sys; sys.argv = ['distillab'] + sys.argv[1:]\n"
        "from distillab.commands.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'lightning', 'pydantic', 'wandb', 'numpy', 'altair', 'vl_convert', 'rich', 'optuna'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("kd", "resnet18", "student", "teacher"):
        assert word in done.stdout


def test_a_shadowed_file_is_refused(tmp_path):
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "kd.yaml").write_text("ce: 1\n")
    with pytest.raises(UserError, match="has the name of a shipped file"):
        check_own_files(tmp_path)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    """Aliases of aliases: 10⁹ values in 200 bytes; and brackets that no reader comes out of."""
    path = tmp_path / "mine.yaml"
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"mine\.yaml stands for 1,\d{3},\d{3},\d{3} values, as its aliases"):
        check_own_files(tmp_path)
    for content, said in ((b"[" * 2000, "too many levels"), (b"a: \xff", "not text in UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            check_own_files(tmp_path)
    path.write_text("a: &a [1, 2]\nb: [*a, *a]\nc: [*c\n")
    check_own_files(tmp_path)  # what is merely wrong Hydra names, where it is chosen


def test_the_entry_is_four_lines():
    assert len([x for x in Path("train.py").read_text().splitlines() if x]) <= 4


def test_data_in_a_folder_are_called_by_it(tmp_path, monkeypatch):
    """Two folders of images are two data sets, with runs of their own."""
    monkeypatch.chdir(tmp_path)
    for root, name in ((tmp_path / "flowers", "flowers"), ("birds/", "birds"), (".", tmp_path.name), ("/", "folder")):
        cfg = composed("data=folder", f"data.root={root}")
        assert cfg["data"]["name"] == cfg["name"] == name
    assert composed("data=folder", "data.root=birds", "data.name=mine")["name"] == "mine"
    assert OmegaConf.to_container(config.compose(["data=folder"]))["name"] == "${data.name}"
    assert config.compose(["data=folder"]).data.name == "folder"


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ((), (0.1, 0.9, 4.0)),
        (("task=causal_lm",), (0.5, 0.5, 1.0)),
        (("strategy=[hint,kd]", "task=causal_lm", "strategy.kd.temperature=3"), (0.5, 0.5, 3)),
        (("data=sotu",), (0.5, 0.5, 1.0)),
        (("experiment=language", "strategy.ce.weight=0"), (0, 0.5, 1.0)),
    ],
)
def test_a_strategy_has_the_numbers_of_its_task_and_the_command_line_wins(words, numbers):
    terms = composed(*words)["strategy"]
    assert (terms["ce"]["weight"], terms["kd"]["weight"], terms["kd"]["temperature"]) == numbers
    assert not {"for", "tasks"} & set(terms)


def test_the_numbers_of_a_task_are_those_that_two_files_disagree_on():
    composed("strategy=[abkd,kd]", "task=causal_lm")
    assert config.strategy_conflicts() == []
    composed("strategy=[hint,kd]", "task=causal_lm")
    assert "hint says 1.0, kd says 0.5" in config.strategy_conflicts()[0]


def test_a_strategy_of_another_task_is_one_line(tmp_path):
    (tmp_path / "strategy").mkdir()
    path = tmp_path / "strategy" / "mine.yaml"
    path.write_text("tasks: [causal_lm]\nce: {_target_: distillab.strategies.ce.CrossEntropy}\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "strategy=mine"]
    with pytest.raises(UserError, match="strategy=mine is for task=causal_lm, not for image_classification; choose"):
        composed(*words)
    assert list(composed(*words, "task=causal_lm")["strategy"]) == ["ce"]


def test_a_model_in_a_folder_counts_by_its_content(tmp_path):
    found = []
    for content in ("{}", '{"a": 1}', "{}"):
        (tmp_path / "config.json").write_text(content)
        found.append(home(parse(composed("teacher=transformers", f"teacher.path={tmp_path}"))))
    assert found[0] == found[2] != found[1]
