"""What a distillation cost and brought, against answers worked out by hand."""

import pytest
from helpers.made_results import made

from distillab.core.configuration import Prices
from distillab.core.cost_parts import StepCost, TeacherOutputs
from distillab.core.errors import UserError
from distillab.core.result_parts import Efficiency, Training
from distillab.evaluation.cost import charged_length, cost, equal_compute, roi, with_cost
from distillab.reporting.cost_words import words
from distillab.reporting.metric_table import metric

TEACHER = {"top1": 0.95, "multiply_adds": 600, "throughput": 100.0, "seconds": 500.0}
BASELINE = {"top1": 0.90, "multiply_adds": 100, "seconds": 60.0}
# 10 epochs; 1000 of the teacher's outputs took 20 s, 3000 came from the cache, the student's own part 160 s.
STUDENT = {
    "top1": 0.93, "multiply_adds": 100, "throughput": 1000.0, "epochs": 10, "seconds": 90.0, "device": "cpu",
    "threads": 2, "time": {"teacher": 22.0, "data": 8.0, "student": 160.0, "validation": 7.0, "other": 3.0},
    "teacher_seconds_computed": 20.0, "teacher_samples_computed": 1000, "teacher_samples_replayed": 3000,
}  # fmt: skip
STEP = {"live": 3.3, "cached": 1.04, "multiply_adds": 2.4, "seconds": 0.1, "rounds": 11}
LONGER = {"epochs": 33, "metrics": {"top1": 0.92}, "step": STEP}
WARM = STUDENT | {
    "teacher_seconds_computed": 0.0,
    "teacher_samples_computed": 0,
    "teacher_samples_replayed": 4000,
}


def entry(flat, name):
    """A network's part of a result; the figures are spread over where they belong."""
    if flat is None:
        return None
    efficiency = {key: value for key, value in flat.items() if key in Efficiency.model_fields}
    training = {key: value for key, value in flat.items() if key in Training.model_fields}
    metrics = {"top1": flat["top1"]}
    return {"name": name, "metrics": metrics, "efficiency": {"parameters": 1, **efficiency}, "training": training}


def result(student=STUDENT, teacher=TEACHER, baseline=BASELINE, **more):
    entries = {"student": student, "teacher": teacher, "baseline": baseline}
    entries = {role: entry(flat, role) for role, flat in entries.items()}
    return made(top1=student["top1"], **{"cache": {"read": 0}, **more}).changed(**entries)


def test_the_teacher_outputs_and_what_the_cache_saved():
    found = cost(result())
    assert found.time == STUDENT["time"]
    # 20 ms each: 3000 that were not computed are 60 s.
    assert found.teacher_outputs == TeacherOutputs(seconds=20, samples=1000, replayed=3000, seconds_saved=60)
    assert found.teacher_training_seconds == 500
    warm = cost(result(WARM)).teacher_outputs  # 4000 at the 100 a second of the teacher's throughput
    assert (warm.seconds_saved, warm.estimated) == (40, True)
    unknown = cost(result(WARM, TEACHER | {"throughput": None})).teacher_outputs
    assert (unknown.seconds_saved, unknown.estimated) == (None, False)
    assert cost(result(teacher=TEACHER | {"seconds": 0.0})).teacher_training_seconds == 0
    alone = result().changed(config={"teacher": {"adapt": "none"}})  # its head was fitted to judge its features
    assert cost(alone).teacher_training_seconds == 0


def test_what_the_run_cost_and_brought_for_that():
    found = equal_compute(result(longer=LONGER))
    assert (found.live, found.cached, found.multiply_adds, found.by) == (3.3, 1.04, 2.4, "seconds")
    # Of 4000 outputs 1000 were computed: 10 × (0.25 × 3.3 + 0.75 × 1.04).
    assert found.used == "cached" and found.epochs == pytest.approx(16.05) and found.training_epochs == 33
    gains = [found.gain_equal_steps, found.gain_live, found.gain_warm_cache]
    assert gains == pytest.approx([0.03, 0.01, 0.03])
    live = equal_compute(result(STUDENT | {"teacher_samples_replayed": 0}, longer=LONGER))
    assert (live.used, live.epochs) == ("live", pytest.approx(33))
    warm = equal_compute(result(WARM, longer=LONGER))
    assert (warm.used, warm.epochs) == ("cached", pytest.approx(10.4))
    steps = equal_compute(result(STUDENT | {"steps": 1000}, longer=LONGER | {"steps": 3300}))
    assert (steps.epochs, steps.training_epochs, steps.unit) == (pytest.approx(1605), 3300, "steps")
    assert equal_compute(result()).live is None
    older = equal_compute(result(longer={"epochs": 30, "metrics": {"top1": 0.92}}))
    assert (older.live, older.used, older.gain_live) == (None, None, pytest.approx(0.01))


def test_cached_steps_that_cost_more_than_the_students_own_are_not_taken_for_equal():
    found = equal_compute(result(WARM, longer=LONGER | {"step": STEP | {"cached": 1.2}}))
    assert (found.gain_warm_cache, found.cached_epochs) == (None, 12)
    same = equal_compute(result(WARM, longer={"epochs": 12, "metrics": {"top1": 0.92}, "step": STEP | {"cached": 1.2}}))
    assert same.gain_warm_cache == same.gain_live, "12 epochs are what the student alone was trained"
    never = equal_compute(result(WARM, longer=LONGER | {"step": STEP | {"cached": None}}))
    assert (never.cached, never.gain_warm_cache, never.used) == (None, None, "live")


@pytest.mark.parametrize(
    ("epochs", "live", "expected"), [(8, 3.3, 27), (10, 1.1, 11), (3, 87.0, 261), (5, 0.9, 5), (10, 2.0, 20)]
)
def test_the_student_alone_gets_what_the_steps_cost_rounded_up(epochs, live, expected):
    assert charged_length(epochs, StepCost(live=live)) == expected
    # Samples that look the same are computed in the first epoch alone: here the others cost half a step each.
    halves = StepCost(live=live, cached=0.5)
    assert charged_length(epochs, halves, taught=1) == -(-(live + 0.5 * (epochs - 1)) // 1)
    assert charged_length(epochs, StepCost(live=live), taught=1) == expected, "nothing can be replayed"


def said(found):
    return words(found, metric("top1").gain)


def roi_at(price, requests, teacher, student):
    prices = Prices.of({"price_per_hour": price, "requests_per_day": requests})
    measured = (Efficiency(parameters=1, throughput=rate) for rate in (teacher, student))
    return roi(prices, *measured, training_hours=2.5)


def test_roi_by_hand():
    # 3.60 an hour is .001 a second: a million predictions take 10,000 s (10.00) or 1,000 s (1.00).
    found = roi_at(3.6, 50_000, 100.0, 1000.0)
    assert found.teacher_per_million == pytest.approx(10) and found.student_per_million == pytest.approx(1)
    assert found.distillation == pytest.approx(9)
    assert (found.requests, found.days) == (1_000_000, 20)  # 9.00 earned at 9.00 a million
    assert roi_at(3.6, None, 100.0, 1000.0).days is None
    slow = roi_at(3.6, 50_000, 1000.0, 1000.0)
    assert (slow.requests, slow.days) == (None, None)
    assert roi_at(0, 50_000, 100.0, 1000.0).requests is None  # nothing is saved where nothing costs


def test_the_run_pays_for_outputs_that_the_cache_replayed():
    prices = Prices.of({"price_per_hour": 3600.0, "requests_per_day": None})
    # 200 s of the fit (of all its calls), and 60 s that the cache saved; at the price of 1 a second.
    assert cost(result(), prices).roi.distillation == pytest.approx(260)
    # Nothing computed: 4000 outputs at the teacher's measured 100 a second.
    assert cost(result(WARM), prices).roi.distillation == pytest.approx(240)
    assert cost(result()).roi is None
    assert cost(result(teacher=TEACHER | {"throughput": None}), prices).roi is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"price_per_hour": -1},
            "roi.price_per_hour must be a number from 0, or null, got -1; set roi.price_per_hour=null",
        ),
        ({"price_per_hour": 1, "requests_per_day": -5}, "roi.requests_per_day must be"),
        ({"price_per_hour": "cheap"}, "got cheap"),
        ({"price_per_hour": float("nan")}, "got nan"),
        ({"price_per_hour": True}, "got true"),
        ({"requests_per_day": 5}, "set roi.price_per_hour="),
    ],
)
def test_a_wrong_price_is_refused_in_one_line(settings, named):
    with pytest.raises(UserError, match=named) as error:
        Prices.of(settings)
    assert "\n" not in str(error.value)


def test_words():
    found = cost(result(longer=LONGER), Prices.of({"price_per_hour": 3.6, "requests_per_day": 1000}))
    assert said(found) == [
        "The student's training took 200.0 s: teacher 11 %, data 4 %, student 80 %, validation 4 %, other 2 %.",
        "1,000 teacher outputs were computed in 20.0 s; 3,000 came from the cache, which saved 60.0 s.",
        "Training the teacher took 500.0 s, once for all runs that share it.",
        "At equal steps distillation brought +3.00 points; cached: 1.04 ×: equal steps cost the same to 4 %: +3.00 points "
        "(this run took the teacher's outputs from the cache); live: a step costs 3.3 × the student's own (2.4 × by "
        "multiply-adds): +1.00 points against 33 epochs alone.",
        "A million predictions cost 10 with the teacher and 1 with the student (measured in batches on cpu, 2 threads). "
        "The distillation cost 0.26 and has paid for itself after 28,889 requests, 28.9 days.",
    ]
    never = cost(result(teacher=TEACHER | {"throughput": 10_000.0}), Prices.of({"price_per_hour": 3.6}))
    assert said(never)[-1].endswith("never pays for itself: the student is not cheaper.")
    none_come = cost(result(), Prices.of({"price_per_hour": 3.6, "requests_per_day": 0}))
    assert said(none_come)[-1].endswith("28,889 requests, which never come at 0 a day.")
    steps = said(cost(result(STUDENT | {"steps": 1000}, longer=LONGER | {"steps": 3000})))[3]
    assert "against 3000 steps alone" in steps and "epochs" not in steps
    untried = said(cost(result(WARM)))
    saved = "which saved about 40.0 s, by the teacher's throughput."
    assert untried[1] == f"4,000 teacher outputs came from the cache, {saved}"
    assert untried[3] == "At equal steps distillation brought +3.00 points; what its steps cost was not compared."
    dear = said(cost(result(WARM, longer=LONGER | {"step": STEP | {"cached": 1.2, "by": "multiply_adds"}})))[3]
    assert "cached: 1.2 ×: equal cost is 12.0 epochs alone, which were not trained (this run took" in dear
    assert "live: a step costs 3.3 × the student's own by multiply-adds: +1.00 points against 33 epochs alone." in dear


def test_what_a_scheme_leaves_uncharged_is_said():
    chain = [
        {"name": "large", "parent": None, "seconds": 500.0},
        {"name": "middle", "parent": "large", "seconds": 70.0},
    ]
    lineage = [*chain, {"name": "small", "parent": "middle", "seconds": 30.0}]
    run = result(scheme="assistant", lineage=lineage)
    assistant = with_cost(run, None).cost
    between = "Training the networks in between took 70.0 s, which no comparison charges."
    assert assistant.between_seconds == 70 and between in said(assistant)
    priced = with_cost(run, Prices.of({"price_per_hour": 3.6})).cost.roi.training_hours
    offline = with_cost(run.changed(lineage=lineage[-1:]), Prices.of({"price_per_hour": 3.6})).cost.roi.training_hours
    assert priced - offline == pytest.approx(70 / 3600), "who distils through an assistant pays for it"
    peers = [{"name": "a", "parent": "b", "seconds": 9.0}, {"name": "b", "parent": "a", "seconds": 9.0}]
    mutual = with_cost(run.changed(teacher=None, scheme="mutual", lineage=peers), None).cost
    assert mutual.between_seconds == 0 and said(mutual)[-1].endswith("what its steps cost was not compared.")
    offline = with_cost(run.changed(scheme="offline", lineage=chain[:1] + lineage[-1:]), None).cost
    assert offline.between_seconds == 0 and not any("not measured" in sentence for sentence in said(offline))


def test_older_results_and_runs_without_a_teacher_have_their_words_too():
    old = {"top1": 0.9, "epochs": 3, "seconds": 12.0}
    assert said(cost(result(old, None, None))) == []
    found = cost(result(old, {"top1": 0.95}, {"top1": 0.89}), Prices.of({"price_per_hour": 1}))
    assert found.equal_compute.training_epochs is None and found.roi is None
    (sentence,) = said(found)
    assert sentence.startswith("At equal steps distillation brought +1.00 points")


def test_of_language_models_tokens_are_counted_and_the_teacher_is_paid_back_too():
    # Tokens cost 36 / 3600 = 0.01 a second; a million of them 100 with the teacher and 25 with the student.
    found = roi(
        Prices(price_per_hour=36, requests_per_day=1e6),
        *(Efficiency(parameters=1, throughput=1.0, device="cpu", threads=1) for _ in range(2)),
        training_hours=2.0,
        tokens=(100.0, 400.0),
        taught_hours=7.0,
        own_hours=1.5,
    )
    assert (found.teacher_per_million, found.student_per_million, found.unit) == (100, 25, "tokens")
    assert found.requests == 960_000 and found.days == pytest.approx(0.96), "72 at 75 a million"
    assert found.with_teacher == 4_080_000, "8.5 hours are 306"
    assert found.students == 5, "7 hours are 1.5 each for 4.67"
    (told,) = [line for line in said(cost(result()).model_copy(update={"roi": found})) if "million" in line]
    assert "A million tokens cost 100 with the teacher and 25 with the student (measured writing one text" in told
    assert (
        "after 960,000 tokens, 1.0 days. With the teacher's training and scoring it has after 4,080,000 tokens" in told
    )
    assert told.endswith("shared by 5 students, these cost each no more than its own training.")
