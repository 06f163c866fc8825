"""Results with everything that a run writes, for the tests of the report."""

from helpers.made_results import edited, made, merged

SMALL, LARGE = ("resnet8", 78_042), ("resnet20", 272_474)


def curve(top1, epochs=8, **terms):
    return [
        {"epoch": epoch, "train/loss": 2.0 / epoch, **terms, "val/top1": top1 * (1 - 0.5**epoch), "seconds": 1.0}
        for epoch in range(1, epochs + 1)
    ]


def tested(curves=(), **more):
    metrics = {"top5": 1.0, "nll": 0.2, "brier": 0.1, "calibration_error": 0.031, "balanced_accuracy": 0.9,
               "macro_f1": 0.89}  # fmt: skip
    return {"metrics": metrics, "training": {"epochs": 8, "curves": list(curves)}, **more}


def line(name, teacher, alone, distilled):
    change = distilled - alone
    return {"name": name, "samples": 40, "teacher": teacher, "alone": alone, "distilled": distilled, "change": change,
            "low": change - 0.05, "high": change + 0.05}  # fmt: skip


COST = {
    "time": {"teacher": 4.0, "data": 1.0, "student": 10.0, "validation": 1.0},
    "teacher_outputs": {"seconds": 4.0, "samples": 800, "replayed": 0, "seconds_saved": None},
    "teacher_training_seconds": 20.0,
    "equal_compute": {"ratio": 0.4, "measured": True, "epochs": 11.2, "training_epochs": 12, "score": 0.945,
                      "gain_equal_steps": 0.02, "gain_live": 0.015, "gain_warm_cache": 0.02},
    "roi": None,
}  # fmt: skip
LIMITS = {
    "classes": [line("cat", 0.4, 0.7, 0.5), line("dog", 0.99, 0.9, 0.95), line("truck", 0.97, 0.91, 0.9)],
    "bins": [line("margin 0.0–0.2", 0.5, 0.55, 0.6), line("margin 0.2–1.0", 0.99, 0.95, 0.97)],
    "hurt": ["cat"],
    "sentences": ["The teacher is worse than the student alone at cat.", "Distillation hurts at cat."],
}


def full(strategy, top1, seed, student=SMALL, **changes):
    """A result with everything that a run writes."""
    alone = changes.pop("baseline", top1 - 0.01)
    known = (top1 - 0.01, alone - 0.01)
    result = made(strategy, top1, None if strategy == "none" else alone, student=student, validations=known, **changes)
    against = {"agreement": 0.93, "kl": 0.12, "teacher_errors": 12, "repeated_errors": 0.5, "repeated_by_chance": 0.25}
    excess = {"errors": 12, "repeated": 6, "repeated_alone": 4, "low": -1.2, "high": 5.2}
    taught = against | {"excess": None if strategy == "none" else excess}
    more = {"student": tested(curve(top1, **{f"train/{strategy}": 1.0}), against_teacher=taught)}
    if result.teacher:
        more["teacher"] = tested()
    if result.baseline:
        gains = {"equal_compute": {"gain_equal_steps": top1 - alone, "score": top1 - 0.015}}
        more |= {
            "baseline": tested(curve(alone), against_teacher=against),
            "limits": LIMITS,
            "cost": merged(COST, gains),
        }
        more["longer"] = {"epochs": 12, "metrics": {"top1": top1 - 0.015}}
        more["gap"] = {"value": 0.04, "low": 0.01, "high": 0.07}
    return edited(
        result,
        seeds={"seed": seed, "teacher": 0, "split": 0},
        overrides=[f"strategy={strategy}", f"student={student[0]}", f"seed={seed}"],
        config={"seed": seed, "strategy": {strategy: {"weight": 1.0}}, "student": {"name": student[0]},
                "recipe": {"epochs": 8}},
        config_hash=f"{abs(hash((strategy, seed, student, top1))) % 16**10:010x}",
        versions={"distillab": "0.1", "torch": "2.9"},
        **more,
    )  # fmt: skip


def study():
    """Two students, two methods, two seeds; one run of another protocol and one of another data set, one old result."""
    runs = [
        full(strategy, top1 + 0.002 * seed, seed, student, baseline=0.93 + 0.001 * seed)
        for student, more in ((SMALL, 0), (LARGE, 0.01))
        for strategy, top1 in (("kd", 0.95 + more), ("hint", 0.94 + more))
        for seed in (0, 1)
    ]
    runs.append(full("kd", 0.99, 0, protocol="paper"))
    runs.append(full("kd", 0.5, 0, data={"name": "cifar10", "classes": 10, "test": 10000}, teacher=0.6))
    return [*runs, made("dkd", 0.945)]
