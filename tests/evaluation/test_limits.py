"""Where the teacher's weakness is passed on: known answers, and studies in which the truth is known."""

import math
from itertools import pairwise

import pytest
import torch
from helpers.made_limits import NAMES, answers_of, logits_of, study

from distillab.core.result_parts import Limits
from distillab.evaluation.limits import limits, paired_interval


def named(sentence):
    return {name for name in NAMES if name in sentence}


def counts(both, only_one, only_other, neither):
    one = torch.tensor([1] * (both + only_one) + [0] * (only_other + neither)).bool()
    other = torch.tensor([1] * both + [0] * only_one + [1] * only_other + [0] * neither).bool()
    return one, other


@pytest.mark.parametrize("table", [(36, 12, 2, 0), (14, 5, 0, 22), (80, 2, 10, 8)])
def test_an_interval_ends_where_the_score_of_the_likeliest_shares_is_196(table):
    """Tango's definition, with the likelihood under a given difference maximised by search."""
    from scipy.optimize import minimize_scalar

    _, more, less, _ = table
    count = sum(table)
    ends = paired_interval(*counts(*table))
    for end in ends:

        def unlikely(rarer, end=end):
            return -sum(n * math.log(max(p, 1e-300)) for n, p in
                        ((more, rarer + end), (less, rarer), (count - more - less, 1 - 2 * rarer - end)))  # fmt: skip

        rarer = minimize_scalar(unlikely, (max(0, -end), (1 - end) / 2), bounds=(max(0, -end), (1 - end) / 2),
                                method="bounded", options={"xatol": 1e-12}).x  # fmt: skip
        score = (more - less - count * end) / math.sqrt(count * (2 * rarer + end - end**2))
        assert abs(score) == pytest.approx(1.95996, abs=1e-3)
    one, other = counts(*table)
    assert paired_interval(other, one) == pytest.approx((-ends[1], -ends[0]), abs=1e-9)


def test_interval_where_nothing_differs_has_a_width():
    right = torch.ones(50, dtype=torch.bool)
    end = 1.959964**2 / (50 + 1.959964**2)
    assert paired_interval(right, right) == pytest.approx((-end, end), abs=1e-6)
    assert paired_interval(~right, right, 1e-9)[0] == -1.0


def test_interval_covers_the_truth_as_often_as_it_says():
    """Correlated answers, accuracies .75 and .70: in 2,000 draws of 100 samples the truth .05 lies inside in 95 %."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.multinomial(torch.tensor([0.62, 0.13, 0.08, 0.17]), 2000 * 100, True, generator=generator)
    inside, wide = 0, 0
    for draw in cells.view(2000, 100):
        one, other = draw < 2, (draw == 0) | (draw == 2)
        low, high = paired_interval(one, other)
        inside += low <= 0.05 <= high
        low, high = paired_interval(one, other, 0.005)
        wide += low <= 0.05 <= high
    assert 0.935 < inside / 2000 < 0.97
    assert wide / 2000 > 0.99


def test_lines_by_hand():
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    teacher = torch.tensor([0, 0, 0, 1, 2, 0])
    alone = torch.tensor([0, 0, 1, 1, 2, 2])
    distilled = torch.tensor([0, 0, 0, 2, 2, 1])
    found = limits(
        labels, *(logits_of(answers, 3) for answers in (teacher, alone, distilled)), class_names=["a", "b", "c"]
    )
    first, last = found.classes  # class b has no sample
    assert (first.name, first.samples, last.name, last.samples) == ("a", 4, "c", 2)
    assert (first.teacher, first.alone, first.distilled, first.change) == (0.75, 0.5, 0.75, 0.25)
    assert (last.teacher, last.alone, last.distilled, last.change) == (0.5, 1.0, 0.5, -0.5)
    assert (first.low, first.high) == paired_interval(*counts(2, 1, 0, 1))
    assert found.hurt == []  # two samples show nothing


def test_bins_hold_equal_counts_and_their_names_are_true():
    generator = torch.Generator().manual_seed(3)
    labels = torch.zeros(1000, dtype=torch.long)
    height = torch.rand(1000, generator=generator) * 6
    found = limits(labels, logits_of(labels, margin=height), logits_of(labels), logits_of(labels), class_names=NAMES)
    assert [line.samples for line in found.bins] == pytest.approx([200] * 5, abs=10)  # edges are rounded
    edges = [tuple(map(float, line.name.removeprefix("margin ").split("–"))) for line in found.bins]
    assert edges[0][0] == 0 and edges[-1][1] == 1 and all(one[1] == other[0] for one, other in pairwise(edges))
    margin = (height.exp() - 1) / (height.exp() + 9)
    for (low, high), line in zip(edges, found.bins, strict=True):
        assert line.samples == int(((margin >= low) & (margin < high)).sum())


def test_bins_of_a_sure_teacher_keep_distinct_names_and_equal_margins_stay_together():
    labels = torch.zeros(500, dtype=torch.long)
    far = logits_of(labels, margin=torch.linspace(6, 9, 500))
    sure = limits(labels, far, logits_of(labels), logits_of(labels), class_names=NAMES)
    assert len({line.name for line in sure.bins}) == 5
    equal = limits(labels, logits_of(labels, margin=100.0), logits_of(labels), logits_of(labels), class_names=NAMES)
    assert [(line.name, line.samples) for line in equal.bins] == [("margin 0.00–1.00", 500)]


def test_hard_samples_come_first():
    labels = torch.zeros(100, dtype=torch.long)
    height = torch.linspace(0.5, 8, 100)
    alone = (torch.arange(100) < 20).long()  # wrong where the teacher is least sure
    found = limits(labels, logits_of(labels, margin=height), logits_of(alone), logits_of(labels), class_names=NAMES)
    changes = [line.change for line in found.bins]
    assert changes[0] > 0.9 and max(changes[2:]) == 0
    assert sum(line.samples for line in found.bins) == 100


@pytest.mark.parametrize("bad", [("cat", "dog"), ("bird", "truck")])
def test_a_teacher_bad_at_two_classes_is_found_and_so_is_the_harm(bad):
    found = study(bad)
    first, second = found.sentences
    assert named(first) == named(second) == set(bad) == set(found.hurt)
    lines = {line.name: line for line in found.classes}
    for name in bad:
        line = lines[name]
        shares = [f"{100 * share + 1e-9:.1f} %" for share in (line.teacher, line.alone, line.distilled)]
        assert f"{name} ({shares[0]} against {shares[1]}; distilled {shares[2]}, " in first
        low, high = (f"−{abs(100 * end) + 1e-9:.2f}" for end in (line.low, line.high))
        assert f"{name} (−{abs(100 * line.change) + 1e-9:.2f} points, 95 % interval {low} to {high})" in second
        assert line.high < 0
    assert found.hurt == sorted(bad, key=lambda name: lines[name].change)


def test_a_good_teacher_leaves_no_class_hurt():
    found = study()
    weakest = min(found.classes, key=lambda line: line.teacher).name
    assert found.hurt == [] and named(found.sentences[0]) == {weakest}
    assert found.sentences[0].startswith(
        f"The teacher was shown to be worse than the student alone at no class; it is weakest at {weakest} ("
    )
    assert found.sentences[1].startswith(
        "In this run no class was shown to be hurt by distillation: the least change, at "
    )


def test_a_student_that_does_not_follow_is_not_hurt():
    found = study(("cat", "dog"), follows=0.0)
    assert named(found.sentences[0]) == {"cat", "dog"}
    assert found.hurt == [] and "no class was shown to be hurt" in found.sentences[1]


def test_no_class_is_blamed_for_noise():
    """Two students of equal accuracy, 200 studies: with the correction few name any class; without it many would."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(10).repeat_interleave(60)
    blamed, uncorrected, said = 0, 0, 0
    for _ in range(200):
        teacher, alone, distilled = (logits_of(answers_of(labels, [0.7] * 10, generator)) for _ in range(3))
        found = limits(labels, teacher, alone, distilled, class_names=NAMES)
        blamed += bool(found.hurt)
        uncorrected += any(line.high < 0 for line in found.classes)
        said += "which is none after correction over 10 classes" in found.sentences[1]
    assert blamed <= 12 < 30 < uncorrected and said > 20


def test_many_hurt_classes_are_counted_not_listed():
    found = study(NAMES[:8])
    assert len(found.hurt) == 8
    for sentence in found.sentences:
        assert len(named(sentence)) == 5 and sentence.endswith(" and 3 more classes.")


def test_a_loss_that_is_not_shown_is_named_with_its_interval():
    labels = torch.arange(10).repeat(4)
    distilled = torch.where((labels == 3) & (torch.arange(40) < 10), 0, labels)
    found = limits(labels, logits_of(labels), logits_of(labels), logits_of(distilled), class_names=NAMES)
    assert found.hurt == []
    assert "the largest loss, at cat, is −25.00 points, 95 % interval −" in found.sentences[1]


def test_classes_of_one_name_stay_two():
    labels = torch.arange(10)
    found = limits(labels, *[logits_of(labels)] * 3, class_names=["crane"] * 10)
    assert [(line.name, line.samples) for line in found.classes] == [("crane", 1)] * 10


def test_limits_are_plain_numbers():
    import json

    found = study(("cat",), samples=50)
    assert Limits.model_validate(json.loads(json.dumps(found.model_dump()))) == found
    assert not any(
        math.isnan(value) for line in found.classes for value in line.model_dump().values() if isinstance(value, float)
    )
