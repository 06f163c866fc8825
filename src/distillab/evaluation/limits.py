"""What the teacher cannot teach: class by class and by difficulty, where its weakness is passed on."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from distillab.core.result import REFERENCES
from distillab.core.result_parts import Limits, LimitsLine
from distillab.core.rounding import rounded, signed
from distillab.evaluation.statistics import paired_counts

ALPHA = 0.05  # of a 95 % interval, and of a family of tests after Bonferroni
BINS = 5
NAMED = 5  # classes in one sentence; more than that nobody reads


def limits(
    labels: Tensor,
    teacher: Tensor,
    alone: Tensor,
    distilled: Tensor,
    *,
    class_names: Sequence[str],
    over: str = REFERENCES["baseline"],
) -> Limits:
    """Accuracy of teacher, student alone and distilled student per class and per bin of the teacher's margin.

    A bin holds the samples whose margin, the teacher's largest probability minus its second, lies in a range: small is
    hard. The five ranges split the samples evenly, as far as equal margins allow.

    A class counts as hurt, or the teacher as worse than the student alone at it, when the difference is below zero with
    an interval widened for as many tests as classes occur (Bonferroni): the chance to name any class wrongly stays
    under 5 %, in either list.

    `labels` are (N,), from 0 to C - 1; `teacher`, `alone` and `distilled` logits (N, C) on the same samples. What has no
    samples has no line; the classes hurt come worst first; the two sentences say where the teacher is worse than the
    student alone (or else weakest), and where distillation hurts. `over` is what `alone` is, where it is another reference.
    """
    logits = {"teacher": teacher, "alone": alone, "distilled": distilled}
    right = {role: each.argmax(1) == labels for role, each in logits.items()}
    # Pairs, not a dict: two classes may bear one name, as some of ImageNet's do.
    groups = [(class_names[label], labels == label) for label in labels.unique().tolist()]
    classes = [_line(name, members, right) for name, members in groups]

    def below_alone(role: str) -> list[LimitsLine]:
        alpha, lines = ALPHA / len(classes), zip(classes, groups, strict=True)
        own, alone = right[role], right["alone"]
        return [line for line, (_, each) in lines if paired_interval(own[each], alone[each], alpha)[1] < 0]

    worse = sorted(below_alone("teacher"), key=lambda line: line.teacher - line.alone)
    hurt = sorted(below_alone("distilled"), key=lambda line: line.change)
    return Limits(
        classes=classes,
        bins=[_line(name, members, right) for name, members in _margin_bins(teacher)],
        hurt=[line.name for line in hurt],
        alone=over,
        sentences=[_where_the_teacher_is_weak(classes, worse, over), _where_it_hurts(classes, hurt)],
    )


def paired_interval(one: Tensor, other: Tensor, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of accuracy(one) - accuracy(other) at confidence 1 - alpha, from which answers are right, (N,)."""
    test = paired_counts(int((one & ~other).sum()), int((other & ~one).sum()), len(one), 1 - alpha)
    return test.low, test.high


def _line(name: str, members: Tensor, right: dict[str, Tensor]) -> LimitsLine:
    own = {role: mask[members] for role, mask in right.items()}
    low, high = paired_interval(own["distilled"], own["alone"])
    shares = {role: mask.double().mean().item() for role, mask in own.items()}
    change = shares["distilled"] - shares["alone"]
    return LimitsLine(name=name, samples=int(members.sum()), change=change, low=low, high=high, **shares)


def _margin_bins(teacher: Tensor) -> list[tuple[str, Tensor]]:
    """Name and members (N,) of each bin that has any, the hardest first.

    A sure teacher's margins crowd below 1, so the edges get as many digits as tell them apart, two to four.
    """
    first, second = teacher.double().softmax(1).topk(2).values.T
    margin = first - second
    inner = margin.quantile(torch.arange(1, BINS, dtype=torch.float64) / BINS)
    rounded = {digits: sorted({0.0, *(round(edge, digits) for edge in inner.tolist()), 1.0}) for digits in (2, 3, 4)}
    digits, edges = max(rounded.items(), key=lambda choice: len(choice[1]))  # the fewest digits of equally good ones
    place = torch.bucketize(margin, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    names = [f"margin {low:.{digits}f}–{high:.{digits}f}" for low, high in pairwise(edges)]
    return [(name, place == number) for number, name in enumerate(names) if (place == number).any()]


def _where_the_teacher_is_weak(classes: list[LimitsLine], worse: list[LimitsLine], over: str) -> str:
    than = f"the {over}" if over == REFERENCES["baseline"] else over
    if worse:
        return f"The teacher is worse than {than} at {_joined(list(map(_accuracies, worse)))}."
    weakest = _accuracies(min(classes, key=lambda line: line.teacher))
    return f"The teacher was shown to be worse than {than} at no class; it is weakest at {weakest}."


def _where_it_hurts(classes: list[LimitsLine], hurt: list[LimitsLine]) -> str:
    if hurt:
        told = [f"{line.name} ({_change(line)})" for line in hurt]
        return f"In this run distillation hurts at {_joined(told)}."
    line = min(classes, key=lambda line: line.change)
    what = "the least change" if line.change >= 0 else "the largest loss"
    corrected = f", which is none after correction over {len(classes)} classes" if line.high < 0 else ""
    said = f"{what}, at {line.name}, is {_change(line)}{corrected}"
    return f"In this run no class was shown to be hurt by distillation: {said}."


def _joined(told: list[str]) -> str:
    *shown, last = told[:NAMED]
    if (left := len(told) - NAMED) > 0:
        shown, last = told[:NAMED], f"{left} more {'class' if left == 1 else 'classes'}"
    return f"{', '.join(shown)} and {last}" if shown else last


def _accuracies(line: LimitsLine) -> str:
    teacher, alone, distilled = (
        f"{rounded(100 * share, 1):.1f} %" for share in (line.teacher, line.alone, line.distilled)
    )
    return f"{line.name} ({teacher} against {alone}; distilled {distilled}, {_change(line)})"


def _change(line: LimitsLine) -> str:
    change, low, high = (signed(100 * value, 2) for value in (line.change, line.low, line.high))
    return f"{change} points, 95 % interval {low.lstrip('+')} to {high.lstrip('+')}"
