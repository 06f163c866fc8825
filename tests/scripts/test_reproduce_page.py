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
        assert 50 < figure.top1 < 80 and source.epochs >= 100 and source.batch_size >= 64 and 0 < figure.lr <= 0.1
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
