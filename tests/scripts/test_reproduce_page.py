"""The page of published figures: fresh, and every command is the experiment that its figure was measured in."""

import itertools
import re
from pathlib import Path

import pytest
import torch
from helpers.data_checks import write_images
from helpers.foreign_names import foreign
from helpers.small_run import run
from methods_page import reproduce
from methods_page.published import read
from omegaconf import OmegaConf

from distillab.commands import composition
from distillab.commands.invocation import parse
from distillab.models.zoo.cifar_resnet import CifarResNet
from distillab.models.zoo.wide_resnet import WideResNet
from distillab.strategies.strategy import Strategy

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reproduce.md").read_text()
PUBLISHED = read(DOCS)
COMMANDS = re.findall(r"(?m)(?:^    |`)python train\.py ([^`\n]*)", PAGE)
FIGURES = {figure.command.removeprefix("python train.py "): figure for figure in PUBLISHED.figures}


def cells(command):
    """The overrides of each run of a command; several where it is a sweep."""
    words = command.removeprefix("-m ").split()
    choices = [
        [word] if "[" in word else [f"{word.split('=')[0]}={v}" for v in word.partition("=")[2].split(",")]
        for word in words
    ]
    found = [list(cell) for cell in itertools.product(*choices)]
    assert (len(found) > 1) == command.startswith("-m ")
    return found


def composed(words):
    config = OmegaConf.to_container(composition.compose(words), resolve=True)
    return parse(config), composition.strategy_label(config["strategy"])


def check(words):
    """That a command composes and, where a figure is expected of it, to what that was measured with."""
    config, label = composed(words)
    assert Strategy.of(config.strategy).terms and config.protocol.name == "paper"
    figure = FIGURES.get(" ".join(words))
    if figure is None:
        return False
    source, recipe = figure.source, config.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (source.epochs, source.batch_size, figure.lr)
    assert all(getattr(recipe, key) == (tuple(v) if isinstance(v, list) else v) for key, v in source.recipe.items())
    names = config.teacher.name, config.student.name
    assert names == (figure.teacher, figure.student) and figure.method in label
    assert config.teacher.recipe.lr == (0.1 if source.epochs == 100 else 0.05) and recipe.optimizer == "sgd"
    return True


def test_the_page_is_fresh():
    assert reproduce.page(DOCS) == PAGE, "docs/reproduce.md is stale: run python scripts/methods.py"


def test_every_figure_tells_what_it_was_measured_with():
    assert len(PUBLISHED.figures) > 200
    for figure in PUBLISHED.figures:
        source = figure.source
        assert 50 < figure.top1 < 80 and source.epochs >= 100 and source.batch_size >= 64 and 0 < figure.lr <= 0.2
        assert source.epoch in ("last", "best", None) and re.fullmatch(r"[\w-]+/[\w-]+", source.repository)
    at = lambda *pair: PUBLISHED.top1(*pair)  # noqa: E731
    assert (at("kd", "resnet32x4", "resnet8x4"), at("crd", "wrn_40_2", "shufflenetv1")) == (73.33, 76.05)
    assert at("dkd", "resnet50", "mobilenetv2") == 70.35 and at("fsp", "wrn_40_2", "wrn_40_1") is None


def test_the_students_that_need_a_lower_rate_get_it():
    """Of all figures on CIFAR-100 of these students, whoever published them."""
    light = [one for one in PUBLISHED.figures if one.student.startswith(("mobilenet", "shufflenet"))]
    assert len(light) > 60 and {one.lr for one in light} == {0.01, 0.02}


def test_every_figure_has_its_command_on_the_page():
    runs = {" ".join(cell) for command in COMMANDS for cell in cells(command)}
    assert len(COMMANDS) > 50 and FIGURES.keys() <= runs


BETA = {"resnet56→resnet20": 2, "resnet110→resnet32": 2, "resnet50→mobilenetv2": 8, "vgg13→mobilenetv2": 6}
BETA |= {"wrn_40_2→wrn_16_2": 6, "wrn_40_2→wrn_40_1": 6, "vgg13→vgg8": 6, "resnet32x4→resnet8x4": 8}
BETA |= {f"{teacher}→shufflenetv{n}": 8 for teacher, n in (("resnet32x4", 1), ("resnet32x4", 2), ("wrn_40_2", 1))}
REVIEW = {"wrn_40_2→wrn_16_2": 5, "resnet32x4→resnet8x4": 5, "resnet32x4→shufflenetv2": 8}
REVIEW |= {"resnet56→resnet20": 0.6, "resnet110→resnet32": 1}


def of(method):
    """Figures of a method on CIFAR-100, by pair, with the config of each."""
    found = [figure for figure in PUBLISHED.figures if figure.method == method and figure.source.epochs == 240]
    return {f"{one.teacher}→{one.student}": composed(one.words)[0] for one in found}


def test_the_numbers_that_are_others_for_each_pair_are_the_authors():
    """mdistiller's configs/cifar100/dkd, ReviewKD's script, ND's train_cifar.sh, SimKD's run_distill.sh."""
    assert {pair: config.strategy["dkd"]["beta"] for pair, config in of("dkd").items()} == BETA
    reviewed = of("reviewkd")
    assert {pair: config.strategy["reviewkd"]["weight"]["value"] for pair, config in reviewed.items()} == REVIEW
    assert {config.strategy["reviewkd"]["student_maps"] for config in reviewed.values()} == {"after"}
    (nd,), (srrl,), (mlkd,) = (of(name).values() for name in ("nd", "srrl", "mlkd"))
    assert (nd.recipe.batch_size, nd.recipe.lr, nd.recipe.nesterov) == (128, 0.1, True)
    assert (nd.strategy["kd"]["weight"]["value"], nd.strategy["nd"]["weight"]) == (3.5, 2.0)
    weights = [srrl.strategy[name]["weight"] for name in ("ce", "kd", "srrl")]
    assert (weights, srrl.strategy["kd"]["temperature"], srrl.strategy["srrl"]["reads"]) == ([1, 1, 1], 4, "embedding")
    assert mlkd.recipe.lr == 0.025 and mlkd.data.get("augment")["strong"]["magnitude"] is None


@pytest.mark.parametrize("experiment", ["crd_pair", "light_pair", "reviewkd_pair", "nd_pair", "mlkd_pair", "tf_kd"])
def test_cifar_100_has_the_benchmarks_constants(experiment):
    data = composed([f"experiment={experiment}"])[0].data
    assert data.get("mean") == [0.5071, 0.4867, 0.4408] and data.get("std") == [0.2675, 0.2565, 0.2761]


@pytest.mark.parametrize(
    ("experiment", "recipe", "terms"),
    [
        ("imagenet_pair", (90, 256, 0.1, (30, 60)), {"attention": {"weight": 1000.0, "stages": "all"}}),
        ("torchdistill_kd", (100, 256, 0.1, (30, 60, 90)), {"kd": {"weight": 0.5, "temperature": 1.0}}),
        (
            "torchdistill_attention",
            (100, 256, 0.1, (30, 60, 90)),
            {"attention": {"weight": 1000.0, "stages": ["layer3", "layer4"]}},
        ),
        (
            "torchdistill_pair",
            (100, 256, 0.1, (30, 60, 90)),
            {"crd": {"weight": 0.8, "negatives": 16384, "temperature": 0.07, "dimensions": 128}},
        ),
        ("mdistiller_dkd", (100, 512, 0.2, (30, 60, 90)), {"dkd": {"alpha": 1.0, "beta": 0.5, "temperature": 1.0}}),
        ("mdistiller_reviewkd", (100, 256, 0.1, (30, 60, 90)), {"reviewkd": {"student_maps": "before"}}),
    ],
)
def test_imagenets_experiments_have_their_authors_recipes_and_numbers(experiment, recipe, terms):
    """torchvision's reference, torchdistill's configs/official/ilsvrc2012, mdistiller's configs/imagenet/r34_r18."""
    config, _ = composed([f"experiment={experiment}", "data.root=/path/to/imagenet"])
    found = config.recipe
    decays = tuple(round(share * found.epochs) for share in found.milestones)
    assert (found.epochs, found.batch_size, found.lr, decays) == recipe
    assert (found.optimizer, found.momentum, found.weight_decay, found.gamma) == ("sgd", 0.9, 1e-4, 0.1)
    assert found.schedule == "step" and not found.nesterov and config.teacher.pretrained
    assert (config.teacher.name, config.student.name) == ("resnet34", "resnet18")
    for name, numbers in terms.items():
        assert numbers.items() <= config.strategy[name].items()
    distilling = Strategy.of(config.strategy).terms[next(iter(terms))]
    distilling.set_epoch(0, found.epochs)  # no warm-up is left after the first epoch
    assert distilling.weight == pytest.approx({"crd": 0.8, "kd": 0.5, "attention": 1000.0}.get(next(iter(terms)), 1.0))


def test_tf_kd_smooths_the_labels_at_temperature_20():
    config, label = composed(["experiment=tf_kd"])
    assert (config.scheme.get("source"), config.scheme.get("correct"), label) == ("labels", 0.99, "kd")
    ce, kd = config.strategy["ce"], config.strategy["kd"]
    assert (ce["weight"], kd["weight"], kd["temperature"]) == (0.9, 0.1, 20.0)
    recipe = config.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.gamma) == (200, 128, 0.1, 0.2)
    assert [share * recipe.epochs for share in recipe.milestones] == [60, 120, 160]


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """The files that the commands name: a config is of files that are there."""
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"checkpoint=(\S+)", "\n".join(COMMANDS)):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_every_command_composes(number, checkpoints):
    """Of a sweep one cell, another one in each."""
    found = cells(COMMANDS[number])
    assert check(found[number % len(found)]) == ("checkpoint" not in COMMANDS[number])


@pytest.mark.slow
def test_every_cell_of_every_command_composes(checkpoints):
    found = [cell for command in COMMANDS for cell in cells(command)]
    assert sum(check(cell) for cell in found) == len(PUBLISHED.figures)


@pytest.mark.parametrize(
    ("words", "teacher"),
    [
        (
            "experiment=crd_pair teacher=resnet56 student=resnet20 strategy=crd",
            lambda: CifarResNet(56, num_classes=100),
        ),
        ("experiment=light_pair teacher=wrn_40_2 student=shufflenetv1 strategy=dkd", lambda: WideResNet(40, 2, 100)),
    ],
)
def test_two_of_them_run(words, teacher, tmp_path, unmeasured, capsys):
    """Two steps on noise of CIFAR-100's shape, with a teacher as RepDistiller saves it."""
    assert words in FIGURES
    classes = [f"{number:02}" for number in range(100)]
    write_images(tmp_path / "images" / "train", dict.fromkeys(classes, 1), size=(32, 32))
    write_images(tmp_path / "images" / "test", dict.fromkeys(classes, 1), size=(32, 32), seed=1)
    torch.save({"epoch": 240, "model": foreign(teacher()), "best_acc": torch.tensor(75.6)}, tmp_path / "t.pth")
    data = ["data=folder", f"data.root={tmp_path}/images", f"teacher.checkpoint={tmp_path}/t.pth"]
    short = ["recipe.steps=2", "recipe.batch_size=8", "baseline=false", "equal_compute=false", "logger=none"]
    result = run(tmp_path, *data, *short, "trainer=cpu", base=words.split())
    assert {"top1_best", "top1_last"} <= result.student.metrics.keys() and result.protocol == "paper"
    assert "other names" in (out := capsys.readouterr().out) and out.count("taken in their order") == 1
