"""Transformed teacher matching, weighted or not (ttm, wttm)."""

from helpers.method_checks import Case
from helpers.method_tester import LABELS, LOGITS, NO_DETACH, LogitsTester
from helpers.numbers import kl, mean_of_rows, softmax


def ttm_row(s, t, gamma, weighted=False):
    power = softmax(t) ** gamma
    return kl(power / power.sum(), softmax(s)) * (power.sum() if weighted else 1)


def cases(reference, *settings, logits=LOGITS, labels=True, **arguments):
    rest = [({"y": LABELS} if labels else {}) | one for one in settings]
    return [Case(reference, **logits, rest=one, extreme=True, **arguments) for one in rest]


class TestWTTM(LogitsTester):
    configs = ("wttm",)
    cases = {
        "ttm": cases(mean_of_rows(ttm_row), {"gamma": 0.3}, {"gamma": 1.0}, labels=False),
        "wttm": cases(
            lambda s, t, gamma: mean_of_rows(ttm_row)(s, t, gamma=gamma, weighted=True), {"gamma": 0.3}, labels=False
        ),
    }
    mutations = [
        ("ttm", *NO_DETACH),
        ("wttm", *NO_DETACH),
        (
            "ttm",
            "kl(F.log_softmax(gamma * t, -1), F.log_softmax(s, -1))",
            "kl(F.log_softmax(s, -1), F.log_softmax(gamma * t, -1))",
            "KL turned round",
        ),
        ("ttm", "gamma * t, -1)", "t / gamma, -1)", "γ taken for a temperature"),
        (
            "wttm",
            "(gamma * log_teacher).exp()",
            "F.log_softmax(gamma * log_teacher, -1).exp()",
            "weights that are all 1",
        ),
        ("wttm", "ttm.rows(s, t, gamma) * ", "ttm.rows(s, t, gamma) + 0 * ", "weights dropped"),
    ]
