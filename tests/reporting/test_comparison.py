"""The statistics that a table's rows show: one family, ranks by validation, the choice, damaged answers left out."""

import numpy as np
import pytest
from helpers.made_results import edited, made
from helpers.made_seeds import BASELINE, HINT, KD, costing, over_seeds

from distillab.evaluation.families import Contrast, family
from distillab.reporting.comparison import compare, verdicts
from distillab.reporting.leaderboard import leaderboard
from distillab.reporting.verdict_words import verdict_words
from distillab.reporting.words import row_words

LARGE = ("resnet20", 272_474)


def by_method(results, answers=None):
    return {row.label: row for row in compare(results, answers)}


def test_a_gain_is_over_the_same_student_and_seeds_alone():
    row = by_method(over_seeds("hint", HINT))["hint"]
    own = np.add(BASELINE, HINT)
    (known,) = family([Contrast(own, np.array(BASELINE), None, "resnet8", (0, 1, 2, 3, 4))], 0.01)
    assert row.gain == known
    assert row.gain.gain == pytest.approx(np.mean(HINT)) and row.gain.low < 0.012 < row.gain.high
    assert (row.mean, row.interval.deviation) == pytest.approx((own.mean(), own.std(ddof=1)))


def test_the_family_is_all_students_and_methods_of_a_table_and_its_size_is_said():
    weak_gains = (0.010, 0.001, 0.012, 0.002, 0.008)
    weak = over_seeds("weak", weak_gains)
    alone = by_method(weak)["weak"]
    assert alone.gain.size == 1 and "corrected" not in row_words(alone)
    others = [run for name, gains in (("a", weak_gains[::-1]), ("b", KD)) for student in (("resnet8", 78_042), LARGE)
              for run in over_seeds(name, gains, student=student)]  # fmt: skip
    elsewhere = [run for what in ({"protocol": "paper"}, {"settings": {"recipe": {"epochs": 9}}})
                 for run in over_seeds("weak", KD, **what)]  # fmt: skip
    rows = [row for row in compare([*weak, *others, *elsewhere]) if row.kind == "distilled"]
    assert sorted(row.gain.size for row in rows) == [1, 1, 5, 5, 5, 5, 5]
    row = next(row for row in rows if row.gain.size == 5 and row.method == "weak")
    assert "corrected for 5 comparisons" in row_words(row)
    assert row.gain.p > alone.gain.p, "five tests ask for more than one"


def test_gain_and_interval_are_said_where_no_difference_is_shown_too():
    row = by_method(over_seeds("kd", KD))["kd"]
    low, high = (f"{100 * end:.2f}".replace("-", "−") for end in (row.gain.low, row.gain.high))
    said = row_words(row)
    assert said.startswith(f"no difference shown: +0.04 points (95 % interval {low} to {high}); it speaks of ")
    assert "new initialisations on these test images" in said and "could have shown" not in said
    assert row.gain.chance_within > 0.99 and "equal within 1 point with over 99 %" in said
    loss = row_words(by_method(over_seeds("kd", [-gain for gain in HINT]))["kd"])
    assert loss.startswith("−1.20 points (95 % interval −") and "), a loss, shown; it speaks of" in loss
    for gain in (0.02, 0.0):
        equal = by_method(over_seeds("kd", [gain] * 3))["kd"]
        assert (
            row_words(equal)
            == f"+{100 * gain:.2f} points in 3 runs without any spread between them, so nothing can be tested"
        )
        assert equal.gain.low is None and equal.gain.p is None


def test_one_seed_says_nothing_of_the_method():
    row = by_method([made("kd")])["kd"]
    assert row_words(row) == "+2.00 points in one run, which says nothing of the methods (seed=0,1,2)"
    assert (row.gain.p, row.gain.low, row.interval.deviation) == (None, None, None)
    right = np.array([1.0] * 380 + [0.0] * 20)
    answers = {"0123456789": {"student": right, "baseline": np.array([1.0] * 300 + [0.0] * 100)}}
    row = by_method([made("kd", 0.95, 0.75)], answers)["kd"]
    assert row.gain.low > 0.1 and row.gain.speaks_of == ("samples",)
    assert "it speaks of these two trained files on other test images, not of the methods" in row_words(row)
    (found,) = verdicts([row])
    assert "this speaks of two trained files, not of the methods" in verdict_words(found)


def test_without_a_baseline_the_gain_is_unknown():
    results = over_seeds("kd", KD)
    row = by_method([results[0], *(result.changed(baseline=None) for result in results[1:])])["kd"]
    assert len(row.seeds) == 5 and row.gain.runs == 1 and "one run" in row_words(row)
    alone = by_method([made("kd", baseline=None)])["kd"]
    assert alone.gain is None and "baseline=true" in row_words(alone)
    none = by_method(over_seeds("none", [0.0] * 3))["student alone"]
    assert (row_words(none), none.gain) == ("the student alone", None)


def test_kept_answers_make_the_interval_speak_of_new_test_images_and_wider():
    runs = over_seeds("hint", HINT)
    drawn = np.random.default_rng(0).normal(0, 0.5, 400)
    noise = drawn - drawn.mean()  # which images the method is better at, the same in every run
    answers = {
        run.config_hash: {"student": run.primary.value + noise, "baseline": np.full(400, run.score("baseline"))}
        for run in runs
    }
    with_, without = by_method(runs, answers)["hint"], by_method(runs)["hint"]
    assert "new initialisations on new test images" in row_words(with_)
    assert with_.gain.high - with_.gain.low > 2 * (without.gain.high - without.gain.low)
    answers.popitem()
    assert by_method(runs, answers)["hint"].gain == without.gain, "of one run they were not kept"


def test_ranks_are_by_validation_among_equal_seeds_and_none_has_its_place():
    lucky = over_seeds("lucky", [0.02] * 5, ahead=-0.03)
    rows = compare([*lucky, *over_seeds("kd", KD, ahead=0.01), *over_seeds("hint", HINT[:3], ahead=0.1)])
    assert [(row.label, row.rank) for row in rows] == [
        ("kd", 1), ("student alone", 2), ("lucky", 3), ("hint", None),
    ]  # fmt: skip
    assert rows[2].mean > rows[0].mean, "the best on test is the last on validation"
    equal = compare([*over_seeds("a", KD), *over_seeds("b", KD), *over_seeds("kd", HINT)])
    assert [row.rank for row in equal] == [1, 2, 2, 4]
    (tested,) = verdicts(compare([made("kd", 0.95), made("hint", 0.96)]))
    assert tested.first.method == "hint" and "on test (no validation is known)" in verdict_words(tested)


def test_all_rows_rank_on_the_seeds_that_most_methods_have_whole_whatever_else_they_have():
    """More runs of one method, or a few of another one, take no rank from the rest."""
    three = [*over_seeds("a", HINT[:3], ahead=0.1), *over_seeds("b", KD[:3], ahead=0.1)]
    rows = compare([*over_seeds("kd", (-0.01, -0.01, -0.01, 0.3, 0.3)), *three, *over_seeds("few", HINT[:1])])
    assert {row.label: row.rank for row in rows} == {"a": 1, "b": 2, "student alone": 3, "kd": 4, "few": None}, (
        "kd and the student alone by their mean over the three seeds, on which kd is the worst"
    )
    assert {row.ranked_on for row in rows if row.rank} == {(0, 1, 2)}
    (found,) = verdicts(rows)
    said = verdict_words(found)
    assert "a ranks first of 4 on validation, with 91.77 % on test (3 runs;" in said
    assert said.endswith(" Not ranked: few (it lacks seeds 1 2). Table: digits, protocol standard, 8 epochs.")
    lacking = [[*runs[:one], *runs[one + 1 :]] for one, name in enumerate("abc") for runs in [over_seeds(name, HINT)]]
    rows = compare([run for runs in lacking for run in runs])
    assert {row.ranked_on for row in rows} == {(3, 4)}, "each lacks another seed, and none its rank"
    apart = compare([*over_seeds("a", HINT[:2]), *over_seeds("b", KD)[2:4]])
    assert sorted(row.rank for row in apart if row.rank) == [1, 2] and {r.ranked_on for r in apart if r.rank} == {
        (0, 1)
    }


def test_the_verdicts_figure_runs_and_interval_are_of_the_same_runs():
    """One has a run more than the others have, in which it is far better or worse."""
    for extra, ahead in ((-0.08, 0.2), (0.05, 0.2), (0.0, -0.2)):
        own = over_seeds("kd", (*HINT[:2], extra), ahead=ahead)
        others = [run for name in ("hint", "sp") for run in over_seeds(name, (-0.03, -0.01))]
        (found,) = verdicts(compare([*costing(own, [0.01, 0.02, 0.07]), *others]))
        counted = found.first.at((0, 1))
        assert len(found.first.results) == 3 and found.ranked == 4 and counted.mean != found.first.mean
        said, choice = verdict_words(found), found.choice.score
        assert choice.value == pytest.approx(counted.mean) and choice.low < counted.mean < choice.high
        low, high = (f"{100 * min(max(end, 0), 1):.2f} %" for end in choice[1:])
        assert (
            f" {100 * counted.mean:.2f} % on test (2 of its 3 runs, with the seeds that are ranked: 0 1; "
            f"95 % interval {low} to {high} on these test images, corrected for the choice)" in said
        )
        if found.first.kind == "distilled":
            assert " over the student alone in all 3 runs (" in said
            longer = np.add(BASELINE, HINT)[:2].mean() - 0.015
            assert f" (12 epochs), the student alone has {100 * longer:.2f} %. Table: " in said


def test_each_student_has_its_verdict_also_where_its_seeds_are_others():
    large = over_seeds("kd", KD[:2], student=LARGE)
    own = [run for name in ("hint", "kd", "sp") for run in over_seeds(name, HINT[:3])]
    rows = compare([*own, *large])
    assert {row.label: row.rank for row in rows if row.student == LARGE[0]} == {"kd": None, "student alone": None}
    first, second = verdicts(rows)
    assert (first.first.student, first.ranked, first.apart) == ("resnet8", 4, False)
    assert (second.first.label, second.ranked, second.apart, second.left_out) == ("kd", 2, True, ())
    said = verdict_words(second)
    assert "kd ranks first of 2 on validation, with 90.70 % on test (2 runs" in said
    assert " It has too few of the seeds on which the table ranks, and is ranked apart." in said


def test_the_student_alone_is_named_where_it_ranks_first():
    for ahead in (-0.05, -0.02):  # behind it, and as good
        rows = compare([*over_seeds("kd", [0.02] * 5, ahead=ahead), *over_seeds("hint", [0.01] * 5, ahead=-0.06)])
        (found,) = verdicts(rows)
        assert found.first.kind == "alone" and (found.choice is None or found.choice.place is None)
        said = verdict_words(found)
        assert said.startswith("resnet8: student alone ranks first of 3 on validation")
        assert (
            "; no method is ahead of it on validation. The best method, kd: +" in said
            and "over the student alone" in said
        )


def test_methods_that_tie_for_the_first_place_are_said_to():
    for seeds in (1, 3):
        runs = [run for name in ("hint", "kd", "sp") for run in over_seeds(name, HINT[:seeds])]
        runs += over_seeds("rkd", KD[:seeds], ahead=-0.1)
        (found,) = verdicts(compare(runs))
        assert {row.label for row in (found.first, *found.tied)} == {
            "hint",
            "kd",
            "sp",
        } and found.first not in found.tied
        first, others = found.first.label, " and ".join(row.label for row in found.tied)
        assert f"{first} ties with {others} for the first place of 5 on validation, and has " in verdict_words(found)
    (alone,) = verdicts(compare([*over_seeds("hint", HINT), *over_seeds("kd", KD)]))
    assert alone.tied == () and "ranks first of 3 on validation, with" in verdict_words(alone)


def test_a_verdict_gives_the_chosen_ones_test_figure_corrected_for_the_choice():
    rows = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD)])
    (found,) = verdicts(rows)
    row = rows[0]
    assert found.first is row and row.method == "hint"
    assert found.choice.score.value == pytest.approx(row.mean)
    said = verdict_words(found)
    low, high = (f"{100 * end:.2f} %" for end in found.choice.score[1:])
    assert (
        f"91.62 % on test (5 runs; 95 % interval {low} to {high} on these test images, corrected for the choice)"
        in said
    )
    large = compare([*over_seeds("hint", HINT), *over_seeds("kd", KD, student=LARGE)])
    assert [one.first.student for one in verdicts(large)] == ["resnet8", "resnet20"], "one for each student"


def test_the_gain_at_the_same_whole_cost_is_tested_and_said_live_and_cached():
    row = by_method(costing(over_seeds("hint", HINT), KD))["hint"]
    assert row.at_cost.gain == pytest.approx(np.mean(KD)) and row.charged == "live"
    assert "At the same whole cost, with a live teacher: +0.04 points (" in row_words(row)
    assert "1.4 × with a live teacher of a step alone" in row_words(row)
    cached = by_method(costing(over_seeds("hint", HINT), KD, HINT, "cached"))["hint"]
    assert cached.at_cost.gain == pytest.approx(np.mean(HINT)) and cached.charged == "cached"
    said = row_words(cached)
    assert "with cached outputs: +1.20 points (" in said and "; at that of a live teacher: +0.04 points" in said
    assert "a step costs 1.4 × with a live teacher and 1.01 × with cached outputs of a step alone" in said
    # One run filled the cache for all others: which one that was makes no method dearer.
    first, *rest = costing(over_seeds("hint", HINT), KD, HINT, "cached")
    filled = first.changed(cost={"equal_compute": first.cost.equal_compute.model_copy(update={"used": "live"})})
    live = costing(over_seeds("attention", HINT), KD)  # whose maps no cache keeps
    rows = by_method([filled, *rest, *live])
    assert rows["hint"].charged == "cached" and rows["hint"].at_cost.gain == pytest.approx(np.mean(HINT))
    assert rows["attention"].charged == "live"
    board = leaderboard(list(rows.values()))
    column = [line[board.headings.index("at the same cost")] for line in board.texts]
    assert {"+1.20 (cached)", "+0.04 (live)"} <= set(column)
    three = [*costing(over_seeds("a", HINT), KD), *costing(over_seeds("b", HINT), KD), *over_seeds("c", HINT)]
    assert [row.at_cost.size for row in compare(three) if row.at_cost] == [2, 2]


def test_the_verdict_tells_what_the_first_methods_own_cost_brings(tmp_path):
    """Another method costs more, and the student alone of that cost is better; and where seeds differ."""
    dear = costing(over_seeds("crd", [gain - 0.1 for gain in HINT]), [0.0] * 5)
    dear = [edited(run, longer={"epochs": 99, "metrics": {"top1": 0.99}}) for run in dear]
    own = costing(over_seeds("hint", HINT), KD)
    (found,) = verdicts(compare([*own, *dear]))
    assert found.first.method == "hint" and found.longer.trained == "12 epochs"
    assert found.longer.scores == tuple(run.longer.metrics["top1"] for run in own)
    lacking = [own[0].changed(longer=None), *own[1:]]
    assert verdicts(compare([*lacking, *dear]))[0].longer is None, "not of all of its runs"


def test_a_gain_over_some_of_the_runs_says_over_how_many():
    runs = over_seeds("kd", KD)
    some = [runs[0], *(run.changed(baseline=None, gain=None) for run in runs[1:])]
    said = verdict_words(verdicts(compare(some))[0])
    assert "over the student alone in the 1 of them that have one" in said
    assert "(5 runs" in said


def test_longer_is_told_in_the_verdict_and_may_hold_the_front():
    best = [run.primary.value - 0.95 for run in over_seeds("hint", HINT)]
    rows = by_method(costing(over_seeds("hint", HINT), best))
    longer = rows["student alone, longer (12 epochs)"]
    assert longer.rank is None and longer.mean == pytest.approx(0.95)
    assert "parameters" in longer.front and rows["hint"].front == ()
    (found,) = verdicts(list(rows.values()))
    longer = "Trained for at least what a live teacher costs (12 epochs), the student alone has 95.00 %."
    assert longer in verdict_words(found)


def test_less_is_better_where_the_figure_says_so():
    def less(name, values, alone):
        runs = []
        for seed, value in enumerate(values):
            run = made(name, 0.5, 0.5, seeds={"seed": seed}, config_hash=f"{name}{seed}").model_dump()
            run |= {"primary": {"name": "nll", "value": value, "higher_is_better": False}, "gain": alone - value}
            for role, figure in (("student", value), ("baseline", alone), ("teacher", 0.1)):
                run[role] |= {"metrics": {"nll": figure}, "validation": {"nll": figure}}
            runs.append(edited(made(), **run))
        return runs

    rows = compare([*less("kd", (0.5, 0.52, 0.51), 0.6), *less("hint", (0.7, 0.72, 0.71), 0.6)])
    assert [row.label for row in rows] == ["kd", "student alone", "hint"] and rows[0].rank == 1
    assert rows[0].gain.gain == pytest.approx(0.09) and rows[2].gain.gain == pytest.approx(-0.11)
    assert row_words(rows[2]).startswith("−0.110 in negative log-likelihood (less is better)")


def test_a_setting_that_fails_says_nothing_of_runs_beside_another_student_alone():
    """Each is compared with the student alone of its own settings, and has its own deviation."""
    good = over_seeds("kd", HINT)
    failed = over_seeds("kd", (0.0, -0.4, 0.3, -0.2, 0.1), [0.5] * 5, settings={"recipe": {"epochs": 8, "lr": 9}})
    failed = [one.changed(config_hash=f"{one.config_hash}x") for one in failed]
    alone = next(row for row in compare(good) if row.kind == "distilled")
    beside = max((row for row in compare([*good, *failed]) if row.kind == "distilled"), key=lambda row: row.mean)
    assert beside.gain.gain == alone.gain.gain and beside.gain.shown
    assert beside.gain.high - beside.gain.low < 1.6 * (alone.gain.high - alone.gain.low)
