"""The command line as people type it: options anywhere, paths with signs, and other codes' names for things."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from distillab.commands import cli
from distillab.commands import composition as config
from distillab.commands.composition import choices
from distillab.commands.words import STRATEGIES, meant, understood


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("strategy=kd -m seed=0,1", "-m strategy=kd seed=0,1"),
        ("strategy=kd --config-dir my_conf seed=1", "--config-dir my_conf strategy=kd seed=1"),
        ("strategy=kd --config-dir=my_conf", "--config-dir=my_conf strategy=kd"),
        ("strategy=kd --cfg job", "--cfg job strategy=kd"),
        ("--info strategy=kd", "--info=all strategy=kd"),
        ("--strategy kd --recipe.epochs=3 --rerun", "strategy=kd recipe.epochs=3 rerun=true"),
        ("--batch-size 8 -- seed=1", "batch_size=8 seed=1"),
        ("+experiment=crd_pair +x=1 ~roi", "experiment=crd_pair +x=1 ~roi"),
    ],
)
def test_options_may_stand_anywhere_and_overrides_may_have_dashes(typed, read):
    assert understood(typed.split()) == read.split()


HARD = ["epoch=3-step=10.ckpt", "a b.pt", "it's.pt", 'a"b\\.pt', "net(1).pt", "f(x)", "[a].pt", "{a}.pt", "#1&2;.pt", "1e3",
        "3", "true", "a~b", "ends\\", "x/[y]/{z}=(1)#'\"&;~ .pt"]  # fmt: skip


@pytest.mark.parametrize("path", HARD)
def test_a_path_may_have_any_sign(path):
    """Lightning's own checkpoints are called epoch=3-step=10.ckpt, which Hydra's grammar does not read."""
    words = understood([f"teacher.checkpoint={path}"])
    assert str(config.compose(words)["teacher"]["checkpoint"]).lower() == path.lower()
    assert understood(words) == words, "a sweep's cell and a command that repeats a run are read again"


def test_home_is_expanded_where_no_shell_does_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert understood(["data.root=~/my images"]) == ["data.root=/home/me/my images"]
    assert understood(["~strategy.ce"]) == ["~strategy.ce"]
    sweep = ["paths.runs=/home/me/a,/home/me/b", 'data.root="/home/me/a=b",/data/b']
    assert understood(["paths.runs=~/a,~/b", "data.root=~/a=b,/data/b"]) == sweep
    parsed = OverridesParser.create().parse_overrides(sweep)
    assert [*parsed[0].sweep_string_iterator()] == ["/home/me/a", "/home/me/b"]
    inside = ["scheme.teachers=[{model:resnet8,checkpoint:/home/me/x.pt}]", "data.root=choice(/home/me/a,/home/me/b)"]
    assert understood([word.replace("/home/me", "~") for word in inside]) == inside
    assert all(one.is_sweep_override() for one in parsed) and understood(sweep) == sweep


def test_lists_sweeps_and_interpolations_stay_what_they_are():
    words = [
        "strategy=[kd,hint]",
        "seed=range(0,3)",
        "strategy.kd.weight={value:0.9}",
        "name=${data.name}",
        "name=a,b",
        "x=",
    ]
    assert understood(words) == words


def refused(*words):
    with pytest.raises(HydraException) as caught:
        config.compose(list(words))
    line = cli.one_line(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("epochs=3", "write recipe.epochs=3 or teacher.recipe.epochs=3"),
        ("lr=0.1", "write recipe.lr=0.1 or teacher.recipe.lr=0.1"),
        ("learning_rate=0.1", "write recipe.lr=0.1"),
        ("batch_size=8", "write recipe.batch_size=8 or teacher.recipe.batch_size=8"),
        ("student.epochs=3", "write recipe.epochs=3 or teacher.recipe.epochs=3"),
        ("epoch=3", "write recipe.epochs=3 or teacher.recipe.epochs=3"),
        ("model=resnet8", "write student=resnet8 or teacher=resnet8"),
        ("dataset=cifar10", "write data=cifar10"),
        ("method=kd", "write strategy=kd"),
        ("devices=2", "write trainer.devices=2"),
        ("tags=[a]", "write logger.tags=[a]"),
        ("strategy=fitnet", ": strategy=hint"),
        ("strategy=AT", ": strategy=attention"),
        ("strategy=[kd,FitNets]", ": strategy=hint"),
        ("strategy=Review-KD", ": strategy=reviewkd"),
        ("student=ResNet-8", ": student=resnet8"),
        ("teacher=wrn-40-2", ": teacher=wrn_40_2"),
        ("data=CIFAR-10", ": data=cifar10"),
        ("hint", "write key=value, e.g. strategy=hint"),
        ("fitnet", "write key=value, e.g. strategy=hint"),
        ("cifar10", "write key=value, e.g. data=cifar10"),
        ("strategy=[kd", "write 'strategy=\"[kd\"'"),
    ],
)
def test_another_name_is_answered_with_the_exact_override(word, answer):
    assert refused(word).endswith(answer)


def test_every_other_name_of_a_strategy_leads_to_one():
    names = choices("strategy")
    assert set(STRATEGIES.values()) <= set(names) and not set(STRATEGIES) & set(names)
    assert meant("nonsense", names) is None and meant("KD", names) == "kd"
