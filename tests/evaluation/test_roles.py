"""What the roles' predictions are compared by, and what is kept of each sample."""

import numpy as np
import pytest
import torch

from distillab.evaluation import kept, text_roles
from distillab.evaluation.metrics import classification_metrics
from distillab.evaluation.roles import evaluate_roles
from distillab.evaluation.token_scores import Column

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def logits():
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=draw)
    own = 2 * torch.nn.functional.one_hot(labels, 3).float()
    noise = torch.randn(4, 300, 3, generator=draw)
    roles = {"teacher": 2 * own, "baseline": own, "student": own}
    return {role: rows + 1.5 * noise[n] + noise[3] for n, (role, rows) in enumerate(roles.items())}, labels


def test_all_parts_are_of_the_same_predictions(logits):
    rows, labels = logits
    found = evaluate_roles(rows, labels, NAMES, classification_metrics)
    right = {role: (each.argmax(1) == labels).double() for role, each in rows.items()}
    assert found.gap.value == pytest.approx((right["teacher"] - right["baseline"]).mean().item())
    assert found.gap.low < found.gap.value < found.gap.high and found.gap.p < 0.05
    for role, intervals in found.intervals.items():
        for key in ("top1", "nll"):
            assert intervals[key].value == pytest.approx(found.metrics[role][key])
            assert intervals[key].low < intervals[key].value < intervals[key].high
        # Wilson's ends are the shares p with (share - p)² = z² p (1 - p) / n.
        share = intervals["top1"]
        ends = np.array([share.low, share.high])
        assert (share.value - ends) ** 2 == pytest.approx(1.959964**2 * ends * (1 - ends) / len(labels), rel=1e-5)
        assert found.calibration[role].value == pytest.approx(found.metrics[role]["calibration_error"])
    against = found.against_teacher["student"]
    assert against.excess.errors == against.teacher_errors and found.against_teacher["baseline"].excess is None
    assert against.excess.repeated / against.teacher_errors == pytest.approx(against.repeated_errors)
    worse = found.against_alone.nll
    assert worse.value == pytest.approx(found.metrics["student"]["nll"] - found.metrics["baseline"]["nll"])
    assert found.against_alone.calibration_error.low <= found.against_alone.calibration_error.value
    assert found.against_alone.spoiled == [] or worse.low > 0
    alone = evaluate_roles({"student": rows["student"]}, labels, NAMES, classification_metrics)
    assert alone.gap is alone.paired is alone.against_alone is None and not alone.against_teacher


def test_a_student_that_is_too_sure_is_said_to_be_spoiled(logits):
    rows, labels = logits
    sure = rows | {"student": 6 * rows["baseline"]}
    found = evaluate_roles(sure, labels, NAMES, classification_metrics)
    assert found.against_alone.spoiled == ["nll", "calibration_error"] and found.paired.value == 0


def test_what_is_kept_gives_the_figures_back(logits, tmp_path):
    rows, labels = logits
    found = evaluate_roles(rows, labels, NAMES, classification_metrics)
    path = tmp_path / kept.NAME
    assert kept.by_sample(path, "top1") is None
    kept.write(path, found.kept)
    for role in rows:
        assert kept.by_sample(path, "top1", role).mean() == pytest.approx(found.metrics[role]["top1"])
        assert kept.by_sample(path, "nll", role).mean() == pytest.approx(-found.metrics[role]["nll"], rel=1e-6)
    assert kept.by_sample(path, "bits_per_byte") is None and kept.by_sample(path, "macro_f1") is None
    # Files of earlier versions have classes alone.
    np.savez_compressed(path, labels=labels.numpy(), student=rows["student"].argmax(1).numpy())
    assert kept.by_sample(path, "top1").mean() == pytest.approx(found.metrics["student"]["top1"])
    assert kept.by_sample(path, "nll") is None and kept.by_sample(path, "top1", "baseline") is None


@pytest.mark.parametrize("content", ["text", "shapes", "kind"])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / kept.NAME
    if content == "text":
        path.write_text("no archive")
    elif content == "shapes":
        np.savez(path, labels=np.arange(3), student=np.arange(4))
    else:
        np.savez(path, labels=np.array(["a"]), student=np.array(["a"]))
    with pytest.raises(ValueError, match="no answers of"):
        kept.by_sample(path, "top1")


def test_documents_are_the_samples_of_text(tmp_path):
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(9, (400,), generator=draw)

    def scores(nats):
        rows = torch.zeros(400, 6, dtype=torch.float64)
        rows[:, Column.NLL] = nats + torch.rand(400, generator=draw)
        rows[:, Column.ANSWER] = torch.where(torch.rand(400, generator=draw) < 0.6, labels, (labels + 1) % 9)
        rows[:, Column.CONFIDENCE] = 0.6
        rows[:, Column.SIZE] = torch.arange(400) % 3 + 1
        rows[:, Column.DOCUMENT] = torch.arange(400) // 20
        return rows

    rows = {"teacher": scores(0.5), "baseline": scores(1.5), "student": scores(1.0)}
    found = text_roles.compare(rows, labels)
    bits = {role: found.metrics[role]["bits_per_byte"] for role in rows}
    assert found.gap.value == pytest.approx(bits["baseline"] - bits["teacher"]) and found.gap.low > 0
    assert found.paired.value == pytest.approx(bits["baseline"] - bits["student"])
    assert found.paired.documents == 20 and found.paired.p < 0.05
    assert found.intervals["student"]["bits_per_byte"].value == pytest.approx(bits["student"])
    assert found.against_alone.nll.value == pytest.approx(
        found.metrics["student"]["nll"] - found.metrics["baseline"]["nll"]
    )
    assert found.against_teacher["student"].excess.errors == found.against_teacher["student"].teacher_errors
    path = tmp_path / kept.NAME
    kept.write(path, found.kept)
    own, alone = (kept.by_sample(path, "bits_per_byte", role) for role in ("student", "baseline"))
    assert own.shape == (20,) and (own - alone).mean() == pytest.approx(found.paired.value)
    # One document has no interval, and shows nothing.
    one = {role: each[:20] for role, each in rows.items()}
    single = text_roles.compare(one, labels[:20])
    assert single.gap is None and single.paired.low is None and "bits_per_byte" not in single.intervals["student"]
