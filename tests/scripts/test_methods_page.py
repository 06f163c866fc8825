"""The methods page: fresh, one row a method, and its columns against a second way."""

import csv
from pathlib import Path

import pytest
import yaml
from methods_page import page as methods_page
from methods_page import step_cost
from methods_page.published import read

from distillab.commands.composition import conf_dir

DOCS = Path(__file__).parents[2] / "docs"
FILES = {path.stem: path.read_text() for path in (conf_dir() / "strategy").glob("*.yaml")}


@pytest.fixture(scope="module")
def page():
    return methods_page.page(DOCS)


def rows(page):
    lines = [line.strip("| ").split(" | ") for line in page.split("\n\n")[2].splitlines()]
    return {cells[0].strip("`"): dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}


def test_the_page_is_fresh(page):
    assert (DOCS / "methods.md").read_text() == page, "docs/methods.md is stale: run python scripts/methods.py"


def test_every_strategy_has_its_row_and_nothing_else_has(page):
    assert len(FILES) > 30 and set(rows(page)) == set(FILES)
    figures = {figure.method for figure in read(DOCS).figures}
    assert figures <= set(FILES), "a figure of a strategy that there is not"
    measured = set(methods_page.stored_cost(DOCS)["seconds"])
    assert measured <= set(FILES), "docs/step_cost.json is of other strategies: run python scripts/methods.py --measure"


def test_columns_of_methods_that_are_known(page):
    said = rows(page)
    assert said["kd"]["terms"] == ("0.1 ce + 0.9 kd (temperature 4); causal_lm: 0.5 ce + 0.5 kd (temperature 1)")
    assert said["uld"]["terms"] == "0.5 ce + 0.5 uld (temperature 1, align boundaries)" and said["uld"]["step"] == "–"
    assert said["dkd"]["needs"] == "logits, labels" and "weight warmup 8.33 %" in said["dkd"]["terms"]
    assert said["hint"]["extra parameters"] == "16.6 k"  # 1×1 convolution of 128 to 128 channels, and its BatchNorm
    assert said["crd"]["extra parameters"] == "65.8 k"  # two linear layers from 256 to 128, with biases
    assert said["ctkd"]["extra parameters"] == "1"
    assert said["simkd"]["extra parameters"].endswith(", shipped")
    assert said["hint_two_phase"]["phases"] == "25 %: hint → both; the rest: ce, kd → student"
    families = {name: said[name]["family"] for name in ("none", "kd", "dist", "hint", "sp", "crd", "mlkd", "nd")}
    expected = {"none": "–", "kd": "logit", "dist": "logit", "hint": "feature", "sp": "relation"}
    assert families == expected | {"crd": "contrastive", "mlkd": "two views", "nd": "logit + feature"}


@pytest.mark.parametrize(
    ("line", "year"),
    [
        ("# A, B et al. 2024, arXiv 2301.00001: what.", "2024"),
        ("# A, arXiv 2012.03236: what.", "2020"),
        ("# A, B and C, CVPR 2017: what.", "2017"),
        ("# What, without a paper.", "–"),
    ],
)
def test_the_year_is_the_papers_or_its_arxiv_numbers(line, year):
    paper, found = methods_page.paper_and_year(f"{line}\nce: {{}}\n")
    assert found == year
    assert ("](https://arxiv.org/abs/" in paper) == ("arXiv" in line) and not paper.endswith(".")


def test_a_comparison_is_shown_as_it_is(tmp_path, page):
    for name in ("published.yaml", "step_cost.json"):
        if (DOCS / name).is_file():
            (tmp_path / name).write_text((DOCS / name).read_text())
    with (tmp_path / "comparison.csv").open("w", newline="") as file:
        file.write("# CIFAR-10,\n# one seed.\n")
        csv.writer(file).writerows([["strategy", "top1", "seconds_per_epoch"], ["kd", "88.10", "12.5"]])
    shown = methods_page.page(tmp_path).split("## On real images\n\n")[1]
    assert shown == (
        "CIFAR-10, one seed.\n\n| strategy | top1 | seconds per epoch |\n| --- | ---: | ---: |\n| kd | 88.10 | 12.5 |\n"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("crd", 8.0), ("crld", 8.0), ("nd", 8.0), ("hint_two_phase", 0.25 * 8 + 0.75 * 1)],
)
def test_a_step_is_the_fastest_and_phases_weigh_as_their_epochs(name, expected, monkeypatch):
    """With a memory, two views, a look at the data and phases: real steps, a clock that is set."""

    class Set(step_cost.StepTimer):
        def on_train_batch_end(self, trainer, *_):
            seconds = self.seconds.setdefault(trainer.current_epoch, [])
            seconds.append([[0.0, 9.0, 8.0], [0.0, 1.0, 7.0]][trainer.current_epoch][len(seconds)])

    for constant, value in {"TEACHER": "resnet8", "STUDENT": "resnet8", "BATCH": 4, "STEPS": 3}.items():
        monkeypatch.setattr(step_cost, constant, value)
    monkeypatch.setattr(step_cost, "StepTimer", Set)
    assert step_cost.step_seconds(yaml.safe_load(FILES[name])) == pytest.approx(expected)
