"""Results of a method over seeds."""

from helpers.made_results import made

BASELINE = (0.900, 0.912, 0.905, 0.908, 0.896)
HINT = (0.010, 0.014, 0.012, 0.009, 0.015)
KD = (0.004, -0.002, 0.003, -0.004, 0.001)


def config(seed, **changes):
    return {"seed": seed, "recipe": {"epochs": 8, "lr": 0.1}, "name": "digits", **changes}


def over_seeds(strategy, gains, baseline=BASELINE, **changes):
    """One result a seed; on validation all is as much better than on test as `ahead` says of the student."""
    settings, ahead = changes.pop("settings", {}), changes.pop("ahead", 0.0)
    lone = strategy == "none"
    return [
        made(strategy, alone + gain, None if lone else alone, seeds={"seed": seed}, config=config(seed, **settings),
             validations=(alone + gain + ahead, alone), config_hash=f"{strategy}{seed}", **changes)
        for seed, (gain, alone) in enumerate(zip(gains, baseline, strict=False))
    ]  # fmt: skip


def costing(results, gains, cached=None, used="live", epochs=12):
    """The results with the student alone trained longer, over which they gain so much live, and `cached` at equal steps."""
    found = []
    for result, gain, warm in zip(results, gains, cached or [None] * len(gains), strict=True):
        score = result.primary.value - gain
        equal = {"live": 1.4, "cached": None if warm is None else 1.01, "used": used, "training_epochs": epochs,
                 "score": score, "gain_equal_steps": result.gain, "gain_live": gain, "gain_warm_cache": warm}  # fmt: skip
        longer = {"epochs": epochs, "metrics": {"top1": score}}
        found.append(result.changed(longer=longer, cost={"equal_compute": equal}))
    return found
