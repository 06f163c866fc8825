"""The studies in conf/sweep: how many cells each has, that every cell composes, and that its command is written on top."""

import functools
import shlex

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from distillab.commands import composition as config
from distillab.commands import sweep
from distillab.core.configuration import ModelConfig

CONF = config.conf_dir()
OF_FEW = {"attention_map", "deit"}  # for text, and for students with a distillation token
STRATEGIES = sorted({path.stem for path in (CONF / "strategy").glob("*.yaml")} - OF_FEW)
CELLS = {
    "methods": len(STRATEGIES),
    "pareto": 8 * 4,
    "capacity_gap": 5 * 2,
    "fewer_labels": 3 * 3,
    "seeds": 3,
    "aa": 10,
}


@pytest.fixture(scope="module")
def hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def cells(study):
    """The overrides of each cell, as Hydra's sweeper makes them, and how many the sweep counts."""
    words = [f"sweep={study}"]
    cfg = compose("train", overrides=words, return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    params = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *words])
        counted = sweep.number_of_cells(cfg)
    return BasicSweeper.split_arguments(parser.parse_overrides([*params, *words]), None)[0], counted


@functools.cache
def composed(*cell):
    return OmegaConf.to_container(compose("train", overrides=list(cell)), resolve=True)


@pytest.mark.parametrize("study", CELLS)
def test_a_study_has_its_cells(hydra, study):
    made, counted = cells(study)
    assert len(made) == counted == CELLS[study] == len({tuple(cell) for cell in made})


def test_methods_are_found_by_listing_and_none_is_among_them(hydra):
    made, _ = cells("methods")
    chosen = sorted(word.removeprefix("strategy=") for cell in made for word in cell if word.startswith("strategy="))
    assert chosen == STRATEGIES and "none" in chosen


@pytest.mark.parametrize("study", ["pareto", "capacity_gap", "fewer_labels"])
def test_every_cell_composes_to_what_it_says(hydra, study):
    for cell in cells(study)[0]:
        cfg = composed(*cell)
        said = dict(word.split("=") for word in cell)
        assert said["strategy"] == config.strategy_label(cfg["strategy"])
        if study == "fewer_labels":
            assert cfg["data"]["labelled"] == cfg["teacher"]["labelled"] == float(said["data.labelled"])
        for role in set(said) & set(config.ROLES):
            own = yaml.safe_load((CONF / "model" / f"{said[role]}.yaml").read_text())
            assert own.items() <= cfg[role].items()


def test_every_method_of_a_study_takes_every_pair_of_it(hydra):
    from distillab.models.build import build_model
    from distillab.strategies.strategy import Strategy

    specs = {}

    def spec(node, role):
        if node["name"] not in specs:
            own = ModelConfig.of(node, role)
            model = build_model(own, role, "0123456789", (3, 32, 32), mean=[0.5] * 3, std=[0.25] * 3, seed=0)
            specs[node["name"]] = model.info
        return specs[node["name"]]

    for study in ("pareto", "capacity_gap"):
        for cell in cells(study)[0]:
            cfg = composed(*cell)
            Strategy.of(cfg["strategy"]).connect(spec(cfg["student"], "student"), spec(cfg["teacher"], "teacher"), 0)
    assert len(specs) == 10  # 8 students; of 5 teachers 3 are students too


@pytest.mark.parametrize("path", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_command_stands_on_top(path):
    comment = path.read_text().splitlines()[1]
    command = shlex.split(comment.rpartition("python train.py")[2])
    assert comment.startswith("# ") and command[0] == f"sweep={path.stem}"
    page = (CONF.parent / "docs" / "studies.md").read_text()
    assert f"sweep={path.stem}" in page
