"""Tuning: that every method gets the same, and that a cut-off command goes on; cells are stand-ins."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra.utils import instantiate

from distillab.commands import tune
from distillab.commands.composition import PRIMARY, TUNE, conf_dir
from distillab.commands.tuning.confirmation import Confirmed
from distillab.commands.tuning.page import Told, chosen, confirmed
from distillab.commands.tuning.study import Outcome, ordinary
from distillab.core.errors import UserError
from distillab.evaluation.families import Finding
from distillab.tasks.image_classification import ImageClassification


class Cells:
    """A launcher whose cells are a closed form: the nearer the learning rate is to 0.01, the better.

    `ran` are the trials, `fresh` the runs that confirm what they chose.
    """

    def __init__(self, fails=lambda words: False, stops_at=None):
        self.fails, self.stops_at, self.ran, self.fresh = fails, stops_at, [], []

    def launch(self, cells, initial_job_idx):
        assert initial_job_idx == len(self.ran) + len(self.fresh)
        jobs = []
        for words in cells:
            if len(self.ran) + len(self.fresh) == self.stops_at:
                raise KeyboardInterrupt
            (self.ran if "sweep=tune" in words else self.fresh).append(words)
            jobs.append(SimpleNamespace(return_value=self.answer(words)))
        return jobs

    def answer(self, words):
        if self.fails(words):
            return {"error": "the disk is full"}
        value = 1 / (1 + abs(rate(words) - 0.01))
        luck = 0.001 * (seed(words) ** 2 % 7) * (1 + ("strategy=kd" in words))
        return {"test": value - 0.1 + luck, "validation": value, "run": "digits/0123456789"}

    def of(self, name):
        return [words for words in self.ran if f"strategy={name}" in words]


def rate(words):
    return float(dict(word.split("=", 1) for word in words).get("recipe.lr", 0.003))


def seed(words):
    return int(dict(word.split("=", 1) for word in words).get("seed", 0))


def outcomes():
    return tune.told[0].outcomes


@pytest.fixture
def tuning(tmp_path):
    """Run a tuning command on stand-in cells; gives the cells."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

        def run(*words, cells=None, trials=4, **settings):
            cells = cells or Cells()
            typed = ["sweep=tune", f"paths.runs={tmp_path}", "student=resnet8", *words]
            settings = {"trials": trials} | settings
            numbers = [f"hydra.sweeper.{key}={value}" for key, value in settings.items()]
            config = loader.load_configuration(PRIMARY, typed + numbers, run_mode=RunMode.MULTIRUN)
            assert config.hydra.sweeper._target_ == TUNE
            sweeper = instantiate(config.hydra.sweeper, _target_="distillab.commands.tune.Tune")
            sweeper.hydra_context, sweeper.launcher = SimpleNamespace(config_loader=loader), cells
            sweeper.config, cells.folder = config, Path(config.hydra.sweep.dir)
            sweeper.sweep([*typed])
            return cells

        yield run


def test_every_method_gets_the_same_and_the_student_alone_too(tuning):
    cells = tuning("strategy=kd,[kd,hint]")
    assert len(cells.ran) == 12
    for name in ("none", "kd", "[kd,hint]"):
        own = cells.of(name)
        assert len(own) == 4
        assert not any(word.startswith(("recipe.", "strategy.")) for word in own[0])  # the default numbers
        assert len({rate(words) for words in own}) == 4 and all(0.0003 <= rate(words) <= 0.03 for words in own)
    # In turns: whenever it is cut off, each has had about the same.
    assert [cells.ran.index(cells.of(name)[1]) for name in ("none", "kd", "[kd,hint]")] == [3, 4, 5]
    assert any(word.startswith("strategy.hint.weight=") for word in cells.of("[kd,hint]")[1])
    assert not any(word.startswith("strategy.") for words in cells.of("none") for word in words)
    assert json.loads((cells.folder / "sweep.json").read_text())["cells"] == 12 + len(cells.fresh)
    assert [len(one.values) for one in outcomes()] == [4, 4, 4]


def test_the_best_is_chosen_on_validation_and_confirmed_on_seeds_that_no_trial_has_used(tuning):
    cells = tuning("strategy=none,kd", "seed=3")
    assert len(cells.ran) == 8 and {seed(words) for words in cells.ran} == {3}  # the student alone is not tuned twice
    told = tune.told[0]
    assert (told.searched, told.fresh) == ([3], [4, 5, 6])
    for name, one, fresh in zip(("none", "kd"), told.outcomes, told.confirmed, strict=True):
        best = max(cells.of(name), key=lambda words: cells.answer(words)["validation"])
        assert max(one.values) == one.best == cells.answer(best)["validation"]
        assert one.default == cells.answer(["recipe.lr=0.003"])["validation"] and one.method == name
        runs = [words for words in cells.fresh if f"strategy={name}" in words]
        tuned = [words for words in runs if rate(words) == rate(best)]
        untuned = [words for words in runs if not any(word.startswith(("recipe.", "strategy.")) for word in words)]
        assert len(runs) == 6 and [seed(words) for words in tuned] == [seed(words) for words in untuned] == [4, 5, 6]
        assert not any("sweep=" in word for words in runs for word in words)  # ordinary runs, which reports rank
        assert all({"baseline=false", "student=resnet8"} <= set(words) for words in runs)
        assert set(tuned[0]) - {"seed=4", "hydra/sweeper=tune", "hydra.mode=MULTIRUN"} == set(one.words)
        assert fresh.tuned == {seed(words): cells.answer(words)["test"] for words in tuned}
        assert fresh.untuned == {seed(words): cells.answer(words)["test"] for words in untuned}
    kd, none = told.confirmed[1], told.confirmed[0]
    assert none.over_alone is None and kd.over_alone.runs == 3 and kd.over_alone.size == 1
    assert kd.over_alone.gain == pytest.approx(np.mean([kd.tuned[n] - none.tuned[n] for n in (4, 5, 6)]))
    assert kd.by_tuning.gain == pytest.approx(np.mean([kd.tuned[n] - kd.untuned[n] for n in (4, 5, 6)]))
    page = (cells.folder / "tune.md").read_text()
    assert "| kd | 4 |" in page and all(one.command([4, 5, 6]) in page for one in told.outcomes)
    assert "chose the best trial, with seed 3" in page and "with seeds 4, 5 and 6, which no trial has used" in page
    assert told.outcomes[1].command([4, 5]).endswith("baseline=false seed=4,5")


def test_a_cut_off_confirmation_goes_on_and_a_new_choice_is_confirmed_anew(tuning):
    words = ["strategy=kd", "data.samples=210"]
    with pytest.raises(KeyboardInterrupt):
        tuning(*words, cells=Cells(stops_at=11))
    rest = tuning(*words)
    assert not rest.ran and len(rest.fresh) == 12  # of the three that ended, their results are found
    assert not tuning(*words).fresh
    assert len(tuning(*words, fresh_seeds=4).fresh) == 4 and tune.told[0].fresh == [1, 2, 3, 4]
    failing = tuning(*words, trials=9, cells=Cells(fails=lambda cell: seed(cell) == 2))
    assert sum(seed(cell) == 2 for cell in failing.fresh) == len(failing.fresh) / 3 > 0
    assert [1, 3] in [sorted(one.tuned) for one in tune.told[0].confirmed]
    again = tuning(*words, trials=9)
    assert {seed(cell) for cell in again.fresh} == {2}
    assert [sorted(one.tuned) for one in tune.told[0].confirmed] == [[1, 2, 3]] * 2


def test_seeds_that_several_methods_were_tuned_on_confirm_none(tuning):
    cells = tuning("strategy=kd", "seed=0,5", trials=1, fresh_seeds=2)
    assert (tune.told[0].searched, tune.told[0].fresh) == ([0, 5], [6, 7])
    assert {seed(words) for words in cells.fresh} == {6, 7}
    # The files' own numbers were the only ones: they are trained once, and have nothing to gain by tuning.
    assert all(
        one.numbers == () and one.tuned == one.untuned and one.by_tuning is None for one in tune.told[0].confirmed
    )


def test_the_same_command_goes_on_where_it_was_cut_off(tuning, tmp_path):
    words = ["strategy=kd", "data.samples=200"]
    whole = tuning("data.samples=200", "strategy=kd", "name=other", trials=6)  # another name lies elsewhere
    for stops_at in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            tuning(*words, cells=Cells(stops_at=stops_at), trials=6)
    rest = tuning(*words, trials=6)
    assert [len(one.values) for one in outcomes()] == [6, 6]
    for name in ("none", "kd"):  # the very trials of a command that nobody cut off
        assert [rate(w) for w in whole.of(name)][-3:] == [rate(w) for w in rest.of(name)][-3:]
    assert not tuning(*words, trials=6).ran  # nothing is left
    more = tuning(*words, trials=7)
    assert len(more.ran) == 2
    assert not tuning(*words, trials=3).ran and [len(one.values) for one in outcomes()] == [3, 3]
    assert len(tuning("strategy=kd", "data.samples=300", trials=1).ran) == 2  # other data is another study


def test_a_failing_trial_stops_nothing_and_is_tried_again_by_the_next_command(tuning):
    cells = tuning("strategy=kd", cells=Cells(fails=lambda words: rate(words) != 0.003 and "strategy=kd" in words))
    assert len(cells.ran) == 8
    assert [(len(one.values), one.failed) for one in outcomes()] == [(4, 0), (1, 3)]
    again = tuning("strategy=kd")
    assert [sorted(words) for words in again.ran] == [sorted(words) for words in cells.of("kd")[1:]]
    assert [(len(one.values), one.failed) for one in outcomes()] == [(4, 0), (4, 0)]


def test_trials_at_once_and_a_space_of_ones_own(tuning):
    space = "{recipe.lr:[0.01,0.02,log],strategy.dkd.weight:null,recipe.weight_decay:null}"
    cells = tuning("strategy=dkd", at_once=3, space=space)
    assert [len(cells.of(name)) for name in ("none", "dkd")] == [4, 4]
    assert all(0.01 <= rate(words) <= 0.02 for words in cells.ran)
    assert not any("weight" in word for words in cells.ran for word in words)
    # Three of one method, three of the other, then the last of each.
    assert ["strategy=dkd" in words for words in cells.ran] == [False] * 3 + [True] * 3 + [False, True]


def test_the_student_alone_drops_what_concerns_its_teaching(tuning):
    cells = tuning("strategy=kd", "strategy.kd.temperature=2", "teacher=resnet20,resnet32", trials=1)
    assert [[w for w in words if w.startswith(("strategy", "teacher"))] for words in cells.ran] == [
        ["teacher=resnet20", "strategy=none"],
        ["strategy=kd", "strategy.kd.temperature=2", "teacher=resnet20"],
        ["strategy=kd", "strategy.kd.temperature=2", "teacher=resnet32"],
    ]
    assert [one.method for one in outcomes()] == ["none", "kd teacher=resnet20", "kd teacher=resnet32"]
    hidden = tuning("strategy=kd", "data.labels=teacher", "data.labelled=0.5", trials=1)
    assert [[w for w in words if w.startswith(("strategy", "data"))] for words in hidden.ran] == [
        ["data.labelled=0.5", "strategy=none"],  # it would be refused with labels that only a teacher knows
        ["strategy=kd", "data.labels=teacher", "data.labelled=0.5"],
    ]
    tuning("strategy=kd", "recipe.batch_size=16,32", "seed=1", trials=1)
    names = [f"{method} recipe.batch_size={size}" for method in ("none", "kd") for size in (16, 32)]
    assert [one.method for one in outcomes()] == names


def test_what_cannot_be_tuned_is_refused_before_anything_runs(tuning, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="protocol=standard"):
        tuning("strategy=kd", "protocol=paper")
    with pytest.raises(UserError, match=r"no chosen method has a number recipe\.lrr"):
        tuning("strategy=kd", space="{recipe.lrr:[1,2]}")
    with pytest.raises(UserError, match="is no mapping"):
        tuning("strategy=kd", space="[1,2]")
    with pytest.raises(UserError, match=r"hydra\.sweeper\.trials=20"):
        tuning("strategy=kd", trials=0)
    with pytest.raises(
        UserError, match=r"fresh_seeds must be a whole number from 1, got 0; set hydra\.sweeper\.fresh_seeds=3"
    ):
        tuning("strategy=kd", fresh_seeds=0)

    class Nested(Cells):
        def launch(self, cells, initial_job_idx):
            with pytest.raises(UserError, match="another command tunes the same"):
                tuning("strategy=kd", trials=1)
            return super().launch(cells, initial_job_idx)

    assert len(tuning("strategy=kd", cells=Nested(), trials=1).ran) == 2
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="uv sync --extra sweeps"):
        tuning("strategy=kd")


def test_the_tables_say_how_the_trials_spread_and_what_the_fresh_seeds_give():
    known = Outcome("kd", "top1", [0.5, 0.7, 0.6, 0.9, 0.8], 1, 0.5, 0.9, ["strategy=[kd,hint]", "baseline=false"])
    none = Outcome("none", "top1", [], 2, None, None, [])
    assert [chosen(one) for one in (known, none)] == [
        ("kd", "5 and 1 failed", "50.00", "90.00", "70.00", "60.00 to 80.00", "50.00 to 90.00"),
        ("none", "0 and 2 failed", *"–––––"),
    ]
    assert known.command([1, 2]).endswith(" -m 'strategy=[kd,hint]' baseline=false seed=1,2")
    finding = Finding(0.02, 2, -0.01, 0.05, 0.2, 1, ("runs",))
    one = Confirmed("kd", "top1", ("recipe.lr=0.1",), {1: 0.9, 2: 0.92}, {1: 0.88}, finding, finding._replace(p=0.01))
    assert confirmed(one) == (
        "kd", "recipe.lr=0.1", "91.00 ± 1.41", "88.00", "+2.00 points (−1.00 to 5.00), no difference shown",
        "+2.00 points (−1.00 to 5.00), shown",
    )  # fmt: skip
    assert "No trial has ended well." in Told([none], [], [0], [1, 2]).page("typed")
    told = Told([known], [one], [0], [1, 2])
    assert [table.title for table in told.tables()] == [
        "Tuning: top-1 % on validation samples", "Tuning: top-1 % on test, seeds 1 and 2",
    ]  # fmt: skip
    assert told.of_trials.startswith("Top-1 in percent on the validation samples, which alone chose the best")


class Missed(ImageClassification):
    """Judged by the share of wrong answers."""

    primary = "missed"
    label = "missed"
    higher_is_better = False


class Misses(Cells):
    def answer(self, words):
        return {key: value if key == "run" else 1 - value for key, value in super().answer(words).items()}


def test_of_an_error_the_least_is_looked_for_and_is_the_best(tuning):
    right = tuning("strategy=kd", trials=13)  # optuna learns from ten
    best = outcomes()[1]
    missed = tuning("strategy=kd", "task._target_=test_tune.Missed", cells=Misses(), trials=13)
    least = outcomes()[1]
    assert [rate(words) for words in missed.ran] == [rate(words) for words in right.ran]
    assert (best.best, least.best) == (max(best.values), min(least.values))
    assert least.best == pytest.approx(1 - best.best)
    none, kd = tune.told[0].confirmed
    assert kd.over_alone.gain == pytest.approx(np.mean([none.tuned[n] - kd.tuned[n] for n in (1, 2, 3)]))
    page = (missed.folder / "tune.md").read_text()
    assert "Missed on the validation samples, which alone chose" in page and f"| {least.best:.3f} |" in page


def test_an_ordinary_command_says_nothing_twice():
    words = ["sweep=tune", "strategy=kd", "recipe.lr=0.1", "seed=2", "student=resnet8", "baseline=true"]
    assert ordinary(words, ["recipe.lr=0.2"]) == ["strategy=kd", "student=resnet8", "recipe.lr=0.2", "baseline=false"]
