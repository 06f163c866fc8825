"""Results of a method over seeds."""

from helpers.made_results import made

BASELINE = (0.900, 0.912, 0.905, 0.908, 0.896)
HINT = (0.010, 0.014, 0.012, 0.009, 0.015)
KD = (0.004, -0.002, 0.003, -0.004, 0.001)


def config(seed, **changes):
    return {"seed": seed, "recipe": {"epochs": 8, "lr": 0.1}, "name": "digits", **changes}


def over_seeds(strategy, gains, baseline=BASELINE, **changes):
    settings = changes.pop("settings", {})
    return [
        made(strategy, alone + gain, alone, seeds={"seed": seed}, config=config(seed, **settings), **changes)
        for seed, (gain, alone) in enumerate(zip(gains, baseline, strict=False))
    ]
