"""What is one row: which runs are repeats of each other, and the students alone that no run was made for."""

import pytest
from helpers.made_results import edited, made
from helpers.made_seeds import BASELINE, HINT, KD, config, costing, over_seeds

from distillab.reporting.comparison import against_each_other, compare, tables
from distillab.reporting.grouping import rows_of
from distillab.reporting.words import row_words


def taught(results):
    return [row for row in compare(results) if row.kind == "distilled"]


def one_row(results):
    (row,) = taught(results)
    return row


def test_only_repeats_are_one_row_and_only_equal_conditions_one_table():
    results = [
        *over_seeds("kd", KD),
        *over_seeds("kd", KD, settings={"strategy": {"kd": {"temperature": 2}}},
                    overrides=["strategy=kd", "seed=1", "strategy.kd.temperature=2"]),
        *over_seeds("kd", KD, scheme="ema"),
        *over_seeds("kd", KD, protocol="paper"),
        *over_seeds("kd", KD, student=("resnet20", 272_474)),
        *over_seeds("kd", KD, data={"name": "digits", "train": 100}),
        *over_seeds("kd", KD, settings={"recipe": {"epochs": 16}}),
        *over_seeds("kd", KD, settings={"data": {"labelled": 0.1}}),
        *over_seeds("kd", KD, settings={"vary": ["init", "split"], "data": {"split_seed": 1}}),
        # A run with no baseline of its own is a repeat all the same, and so is one by another name.
        made("kd", 0.9, None, seeds={"seed": 9}, config=config(9, baseline=False, name="again", equal_compute=True)),
    ]  # fmt: skip
    rows = taught(results)
    assert sorted(len(row.seeds) for row in rows) == [5, 5, 5, 5, 5, 5, 5, 5, 6]
    assert {row.label for row in rows} == {"kd", "kd temperature=2", "kd (ema)"}
    assert sorted(len(members) for members in tables(rows).values()) == [1, 1, 1, 1, 1, 4]
    assert {place.words() for place in tables(rows)} == {
        "digits, protocol standard, 8 epochs", "digits, protocol paper, 8 epochs", "digits, protocol standard, 16 epochs",
        "digits, protocol standard, 8 epochs, 100 training images",
        "digits, protocol standard, 8 epochs, data.labelled=0.1",
        "digits, protocol standard, 8 epochs, new initialisations and splits",
    }  # fmt: skip


def test_what_varies_with_the_seed_is_one_row_and_the_same_value_without_it_is_not():
    def runs(**settings):
        return [made("kd", seeds={"seed": n}, config=config(n, data={"split_seed": n}, **settings)) for n in range(3)]

    assert one_row(runs(vary=["init", "split"])).seeds == (0, 1, 2)
    assert [row.seeds for row in taught(runs())] == [(0,), (1,), (2,)]


def test_budgets_by_steps_are_tables_of_their_own():
    counted = [over_seeds("kd", KD, settings={"recipe": {"epochs": None, "steps": n}}) for n in (900, 1200)]
    places = tables(compare([*over_seeds("kd", KD), *counted[0], *counted[1]]))
    assert sorted(place.steps or 0 for place in places) == [0, 900, 1200]
    assert {"digits, protocol standard, 900 steps", "digits, protocol standard, 1,200 steps"} <= {
        p.words() for p in places
    }


def test_teachers_set_rows_of_one_table_apart():
    two = [
        edited(made("kd", config=config(0, teacher={"name": name})), teacher={"name": name})
        for name in ("resnet20", "resnet56")
    ]
    rows = taught(two)
    assert {row.title for row in rows} == {f"kd teacher={name}, resnet8" for name in ("resnet20", "resnet56")}
    assert len(tables(rows)) == 1


def test_every_baseline_and_every_longer_fit_is_a_row():
    rows = rows_of([*costing(over_seeds("hint", HINT), KD), *over_seeds("kd", KD)])
    known = {row.kind: row for row in rows}
    assert sorted(row.kind for row in rows) == ["alone", "distilled", "distilled", "longer"]
    assert known["alone"].scores == pytest.approx(BASELINE) and known["alone"].validations == pytest.approx(BASELINE)
    longer = [alone + gain - more for alone, gain, more in zip(BASELINE, HINT, KD, strict=True)]
    assert known["longer"].scores == pytest.approx(longer) and known["longer"].epochs == 12
    assert known["longer"].label == "student alone, longer (12 epochs)" and known["alone"].label == "student alone"
    assert known["longer"].place == known["alone"].place, "it stands beside those that it is to be compared with"
    assert known["longer"].figure("parameters") == 78_042 and known["longer"].figure("calibration_error") is None


def test_a_student_alone_is_one_whoever_trained_it_and_whatever_teacher_stands_beside_it():
    alone = [made("none", 0.9, None, seeds={"seed": n}, config=config(n, teacher={"name": str(n)})) for n in range(3)]
    row = compare([*alone, *over_seeds("kd", KD)[3:]])[0]
    assert (row.kind, row.seeds, row.teacher) == ("alone", (0, 1, 2, 3, 4), None)
    tuned = made("none", 0.91, None, config=config(0, recipe={"epochs": 8, "lr": 0.2}), overrides=["recipe.lr=0.2"])
    labels = {row.label for row in compare([tuned, *over_seeds("kd", KD)]) if row.kind == "alone"}
    assert labels == {"student alone", "student alone recipe.lr=0.2"}


def test_of_two_results_of_one_seed_the_newest_counts_but_one_that_says_more_is_kept():
    older, newer = (made("kd", top1, created=f"{year}-01-01T00:00:00") for top1, year in ((0.94, 2030), (0.95, 2031)))
    for results in ([older, newer], [newer, older], [newer, older, newer]):
        row = one_row(results)
        assert row.scores == (0.95,) and row.results == (newer,)
    full = made("kd", 0.95, created="2030-01-01T00:00:00", longer={"epochs": 9})
    without_longer = made("kd", 0.95, created="2031-01-01T00:00:00")
    bare = made("kd", 0.95, None, created="2032-01-01T00:00:00")
    for results in ([full, without_longer, bare], [bare, full, without_longer]):
        assert one_row(results).results == (full,)
    assert one_row([bare, without_longer]).results == (without_longer,)


def charged(runs, by):
    """The runs with their cost charged so."""
    return [edited(run, longer={"step": {"by": by, "live": 1.4}}, cost={"equal_compute": {"by": by}}) for run in runs]


def test_how_the_cost_is_charged_makes_no_further_row_and_costs_of_two_kinds_have_no_mean():
    """The same network comes out: one row, one test, no pair of a method with itself."""
    seconds = charged(costing(over_seeds("kd", HINT[:3]), KD[:3]), "seconds")
    arithmetic = charged(costing(over_seeds("kd", HINT, created="2031-01-01T00:00:00"), HINT), "multiply_adds")
    rows = compare([*seconds, *arithmetic])
    row = one_row([*seconds, *arithmetic])
    assert row.seeds == (0, 1, 2, 3, 4) and row.gain.runs == 5 and row.gain.size == 1
    assert against_each_other(rows) == [] and row.results[:3] == tuple(seconds), "though the others are newer"
    assert row.at_cost.runs == 3 and row.at_cost.gain == pytest.approx(sum(KD[:3]) / 3)
    said = row_words(row)
    assert (
        "At the same whole cost, with a live teacher: " in said
        and "(3 of 5 runs), by the runs that were charged by seconds" in said
    )
    alone = one_row(arithmetic)
    assert alone.at_cost.runs == 5 and "At the same whole cost by multiply-adds, with a live teacher: " in row_words(
        alone
    )


def test_old_results_that_lack_what_may_be_lacking_are_rows():
    bare = made("kd", seeds={}, data={"name": "digits"}, config={}, teacher=None, baseline=None)
    changed = bare.changed(overrides=["strategy=kd", "recipe.lr=0.1"])
    rows = compare([bare, changed])
    assert sorted((row.label, row.seeds, row.place.train, row.place.epochs) for row in rows) == [
        ("kd", (None,), None, None), ("kd recipe.lr=0.1", (None,), None, None),
    ]  # fmt: skip
    assert compare([]) == []


def test_the_gap_is_closed_only_where_there_surely_was_one():
    """The teacher has 0.97: the gaps to the student alone are 5.8 to 7.4 points."""
    row = one_row(over_seeds("hint", HINT))
    assert row.gap_closed == pytest.approx(0.012 / (0.97 - sum(BASELINE) / 5))
    unsure = [edited(run, teacher={"metrics": {"top1": top1}})
              for run, top1 in zip(over_seeds("hint", HINT), (0.99, 0.85, 0.99, 0.85, 0.99), strict=True)]  # fmt: skip
    assert one_row(unsure).gap_closed is None, "0.934 on average, but not surely above 0.904"

    def single(low):
        return one_row([made("kd", gap=low and {"value": 0.04, "low": low, "high": 0.07})])

    assert single(0.01).gap_closed == pytest.approx(0.5)
    assert single(-0.01).gap_closed is None and single(None).gap_closed is None
    assert one_row(over_seeds("hint", HINT, teacher=None)).gap_closed is None


def test_a_single_method_is_named_by_its_own_settings_alone():
    """There is no other row that its data or its recipe would tell it from."""
    own = ["strategy=kd", "data.root=/photos", "recipe.lr=0.1", "strategy.kd.temperature=2"]
    (row,) = (row for row in compare(over_seeds("kd", KD, overrides=own)) if row.kind == "distilled")
    assert row.label == "kd temperature=2"
