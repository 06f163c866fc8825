"""The population of a row: which seeds follow the number of the run, and what then differs."""

import pytest
from helpers import small_run
from helpers.made_results import made
from helpers.made_seeds import HINT, over_seeds

from distillab.commands.composition import compose
from distillab.commands.invocation import home, parse
from distillab.core.configuration import RunConfig
from distillab.core.errors import UserError
from distillab.core.run_identity import config_hash, population_words, varied
from distillab.reporting.comparison import compare

SHORT = ("recipe.epochs=1", "teacher.recipe.epochs=1", "data.samples=120", "equal_compute=false")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the runs of this file lie, with one store."""
    with small_run.unmeasured():
        yield tmp_path_factory.mktemp("vary")


def trained(place, *words):
    return small_run.run(place, *SHORT, *words)


def typed(*words):
    return parse(small_run.composed("/nowhere", *words), words)


def test_what_is_named_follows_the_number_of_the_run():
    run = typed("seed=3", "vary=[views,init,split]")
    assert run.plain["vary"] == ["init", "split", "views"]  # one order, one hash
    assert (run.seed, run.data.get("split_seed"), run.data.get("view_seed"), run.teacher.seed) == (3, 3, 3, 0)
    assert (run.plain["data"]["split_seed"], run.plain["data"]["view_seed"]) == (3, 3)
    run = typed("seed=3", "vary=teacher")  # without init the student is that of seed 0
    assert (run.seed, run.plain["seed"], run.teacher.seed, run.plain["teacher"]["seed"]) == (0, 3, 3, 3)
    again = parse(run.plain)
    assert (again.seed, again.teacher.seed, home(again)) == (0, 3, home(run))


def test_a_run_that_varies_the_init_alone_has_the_hash_that_it_had_before_there_was_a_choice():
    plain = typed("seed=3").plain
    assert plain["vary"] == ["init"]
    assert config_hash(plain) == config_hash({key: value for key, value in plain.items() if key != "vary"})
    others = [
        typed("seed=3", f"vary=[{names}]").plain for names in ("init,split", "split", "init,views", "init,teacher")
    ]
    assert len({config_hash(one) for one in [plain, *others]}) == 5
    assert compose([]).vary == ["init"] == RunConfig.of(plain).vary


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["vary=[init,split]", "data.split_seed=0"],
            "data.split_seed=0 is set, and vary=[…,split] makes it follow seed",
        ),
        (["vary=[views]", "data.view_seed=7"], "leave data.view_seed out, or views out of vary"),
        (["vary=[teacher]", "teacher.seed=1", "seed=2"], "teacher.seed=1 is set"),
        (["vary=[inits]"], 'vary.0 must be one of init, split, teacher, views, got "inits"'),
        (["vary=[]"], "vary must be a list that is not empty"),
        (["vary=null"], "vary must be a list"),
        (["vary=[split]", "seed=-1"], "seed must be a whole number from 0"),
    ],
)
def test_a_seed_that_is_set_and_follows_another_is_refused_in_one_line(words, said):
    with pytest.raises(UserError) as caught:
        typed(*words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_number_of_a_file_that_vary_would_overwrite_is_refused_too():
    config = small_run.composed("/nowhere", "vary=[split]", "data.split_seed=5", "seed=1")
    with pytest.raises(UserError, match=r"data\.split_seed=5 is set"):
        parse(config)  # as if a file of the person's had said it


def test_other_teachers_are_trained_where_they_vary_and_a_given_one_is_refused(place):
    words = "strategy=kd", "vary=[init,teacher]", "baseline=false"
    runs = [trained(place, *words, f"seed={n}") for n in (0, 1)]
    assert len({run.teacher.training.checkpoints for run in runs}) == 2
    assert len({run.teacher.metrics["nll"] for run in runs}) == 2
    assert [run.seeds["teacher"] for run in runs] == [0, 1] and runs[1].population == ("init", "teacher")
    assert [row.seeds for row in compare(runs)] == [(0, 1)]
    with pytest.raises(UserError, match="leave teacher out of vary, or set teacher"):
        trained(place, *words, f"teacher.checkpoint={runs[0].teacher.training.checkpoints}/model.safetensors")


def test_the_split_varies_for_the_student_and_its_baseline_alike(place):
    runs = [trained(place, "strategy=kd", f"seed={n}", "vary=[split]") for n in (1, 2)]
    alone = [trained(place, "strategy=none", f"seed={n}", "vary=[split]") for n in (1, 2)]
    assert [run.baseline.metrics for run in runs] == [run.student.metrics for run in alone]
    assert [run.baseline.validation for run in runs] == [run.student.validation for run in alone]
    assert [run.baseline.training.checkpoints for run in runs] == [run.student.training.checkpoints for run in alone]
    assert runs[0].data == runs[1].data  # the same test images, and as many of each split
    assert [run.seeds for run in runs] == [{"seed": n, "teacher": 0, "init": 0, "split": n, "view": 0} for n in (1, 2)]
    assert compare(runs)[0].seeds == (1, 2)


def test_a_split_makes_other_validation_images():
    from distillab.core.instantiate import build

    rows = []
    for number in (1, 2):
        data = build(typed("vary=[split]", f"seed={number}").data, "data")
        data.prepare()
        rows.append(set(data.rows["validation"].tolist()))
    assert len(rows[0]) == len(rows[1]) and len(rows[0] & rows[1]) < len(rows[0]) / 2


def test_a_row_is_over_what_varies_and_over_nothing_else():
    def runs(vary, **follows):
        settings = [
            {"vary": vary, **{key: dict.fromkeys([name], n) for key, name in follows.items()}} for n in range(3)
        ]
        return [over_seeds("kd", HINT[n : n + 1], settings=one)[0] for n, one in enumerate(settings)]

    both = [one.changed(seeds={"seed": n}) for n, one in enumerate(runs(["init", "split"], data="split_seed"))]

    def seeds(results):
        return sorted(row.seeds for row in compare(results) if row.kind == "distilled")

    assert seeds(both) == [(0, 1, 2)]
    fixed = [one.changed(seeds={"seed": n}) for n, one in enumerate(runs(["init"], data="split_seed"))]
    assert seeds(fixed) == [(0,), (1,), (2,)]
    assert len(seeds([*both, *fixed])) == 4  # another population is another row
    assert varied(both[0]) == ("seed", "data.split_seed") and varied(made()) == ("seed",)


def test_a_population_is_said_in_words():
    assert population_words(("init",)) == "new initialisations"
    assert population_words(("init", "split", "views")) == "new initialisations, splits and augmentations"
    assert population_words(()) == ""
    alone = made("none", teacher=None, config={"vary": ["init", "teacher"]})
    assert alone.population == ("init",) == made().population
    with pytest.raises(ValueError, match="is no list of init, split, teacher, views"):
        made(config={"vary": [3]})
