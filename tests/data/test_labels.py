"""Which labels training sees: shares of them, the teacher's answers in their place, and classes made wrong on purpose."""

from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from helpers.data_checks import cats_and_dogs, complaint, digits, folder
from helpers.fits import make_batch
from helpers.small_run import composed
from helpers.vectors import VectorData
from torch.nn import functional as F

from distillab import Distillation
from distillab.commands import composition as config
from distillab.commands.invocation import parse
from distillab.core.configuration import ModelConfig, TrainerConfig
from distillab.core.recipe import Protocol, Recipe
from distillab.data.labels import UNKNOWN, checked, distributions, known, numbers, pseudo_label, wrong
from distillab.schemes.base import Run
from distillab.schemes.pretrain import ALONE, Pretraining, teacher_data
from distillab.strategies.strategy import Strategy

KD = {"kd": {"_target_": "distillab.strategies.kd.KD"}}


def teacher(**keys):
    return ModelConfig.of(keys, "teacher")


def parts(name):
    return yaml.safe_load((config.conf_dir() / "strategy" / f"{name}.yaml").read_text())


# ------------------------------------------------------------------ pure parts


def test_a_known_share_is_stratified_nested_and_has_every_class():
    labels = np.repeat([0, 1, 2], [100, 50, 3])
    rows = np.arange(153)
    tenth = known(rows, labels, 0.1, (0, 2))
    assert np.bincount(labels[tenth]).tolist() == [9, 5, 1]  # one each, the rest in proportion
    assert set(tenth) < set(known(rows, labels, 0.5, (0, 2)))
    assert len(known(rows, labels, 0.001, (0, 2))) == 3  # one per class
    assert set(tenth) != set(known(rows, labels, 0.1, (1, 2))) and known(rows, labels, 1, (0, 2)) is rows


def test_answers_fill_gaps_and_nothing_else():
    logits = torch.tensor([[0.0, 2, 1], [5, 0, 0], [0, 0, 9]])
    assert pseudo_label(torch.tensor([UNKNOWN, 2, UNKNOWN]), logits).tolist() == [1, 2, 2]
    mixed = 0.7 * distributions(torch.tensor([0, 0, UNKNOWN]), 3) + 0.3 * distributions(torch.tensor([1, -1, 2]), 3)
    assert pseudo_label(mixed, logits).tolist() == [pytest.approx([0.7, 0.3, 0]), [1, 0, 0], [0, 0, 1]]


def test_wrong_labels_are_those_of_other_classes_evenly():
    labels = np.tile(np.arange(5), 2000)
    changed = wrong(labels, np.arange(8000), [1, 3], 5, seed=(0,))
    touched = np.isin(labels, [1, 3]) & (np.arange(10_000) < 8000)
    assert np.array_equal(changed[~touched], labels[~touched])
    counts = np.bincount(changed[touched], minlength=5)
    assert counts[[1, 3]].tolist() == [0, 0] and abs(counts[[0, 2, 4]] / 3200 - 1 / 3).max() < 0.03


def test_classes_go_by_name_and_by_number():
    assert numbers(["dog", 0], ["cat", "bird", "dog"]) == [0, 2]
    assert numbers("dog", ["cat", "dog"]) == [1]
    assert numbers([2], ["9", "2", "5"]) == [1]  # a name before a number
    complaint(lambda: numbers(["dgo"], ["cat", "dog"]), '"dgo"', "dog", "teacher.corrupt_cl")
    complaint(lambda: numbers([2], ["cat", "dog"]), "from 0 to 1")
    complaint(lambda: numbers([0, 1], ["cat", "dog"]), "all 2 classes")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([[1.0, 0, 1], [0, 1, 0]]), ["each row must sum to 1", "several classes of one sample"]),
        (torch.tensor([[1.5, 0, -0.5]]), ["no shares of 3 classes"]),
        (torch.tensor([[0.5, torch.nan, 0.5]]), ["no shares of 3 classes"]),
        (torch.tensor([[0.5, 0.5]]), ["for 3 classes"]),
        (torch.tensor([[1, 0, 1], [0, 1, 0]]), ["(2, 3) torch.int64", "several classes of one sample"]),
        (torch.tensor([0.5, 1.5]), ["(2,) torch.float32", "one class number", "numbers to be predicted"]),
        (torch.tensor([[0.5], [1.5]]), ["several classes"]),
        (torch.tensor([[1], [0]]), ["(2, 1) torch.int64", "several classes"]),
        (torch.tensor([True, False]), ["torch.bool"]),
        (torch.tensor([0, 3]), ["from 0 to 2, got 3"]),
        (torch.tensor([-1, 2]), ["from 0 to 2, got -1"]),
    ],
)
def test_labels_that_are_no_classes_are_refused_in_words(labels, words):
    complaint(lambda: checked(labels, 3, shares=True), *words)


def test_class_numbers_and_shares_of_classes_are_taken():
    for given in (
        torch.tensor([2, 0]),
        torch.tensor([2, 0], dtype=torch.int32),
        torch.tensor([2, 0], dtype=torch.uint8),
    ):
        assert checked(given, 3).dtype == torch.int64 and checked(given, 3).tolist() == [2, 0]
    shares = torch.tensor([[0.3, 0.7, 0]], dtype=torch.float64)
    assert checked(shares, 3, shares=True).dtype == torch.float32
    complaint(lambda: checked(shares, 3), "one class number")
    assert not len(checked(torch.tensor([], dtype=torch.int64), 3))


# ------------------------------------------------------------------ data


@pytest.mark.parametrize("labels", [np.eye(4, dtype=np.float32)[np.arange(400) % 4] * 2, np.linspace(0, 1, 400)])
def test_data_of_other_labels_are_refused_before_a_run_begins(monkeypatch, labels):
    """Several classes of one sample, and numbers to be predicted, in a data module of one's own."""
    collect = VectorData._collect
    monkeypatch.setattr(VectorData, "_collect", lambda self: replace(collect(self), labels=labels))
    complaint(VectorData().prepare, "data=vectors: labels are", "several classes of one sample")


def told(data, split="train"):
    batches = [data.on_after_batch_transfer(b) for b in data.configure(8, 0).evaluation_dataloader(split)]
    return torch.cat([b.labels for b in batches])


@pytest.mark.parametrize("where", ["tensors", "files"])
def test_hidden_labels_reach_no_loader_and_real_ones_judge(tmp_path, where):
    images = cats_and_dogs(tmp_path)

    def make(**n):
        if where == "tensors":
            return digits(tmp_path, **n)
        return folder(images, memory_budget=0.0, workers=0, validation=0.2, **n)

    full, some, none = make(), make(labelled=0.1), make(labels="teacher")
    real = told(full)
    seen = told(some)
    assert torch.equal(seen[seen != UNKNOWN], real[seen != UNKNOWN])
    assert some.sizes["labelled"] == (seen != UNKNOWN).sum() == max(2, round(0.1 * len(real)))
    assert (told(none) == UNKNOWN).all() and none.sizes["labelled"] == 0 and "labelled" not in full.sizes
    training = none.configure(8, 0).train_dataloader()
    assert all((batch.labels == UNKNOWN).all() for batch in training) and (none.training_labels == UNKNOWN).all()
    for split in ("validation", "test"):
        assert torch.equal(told(none, split), told(full, split)) and (told(some, split) >= 0).all()


def test_what_a_teacher_and_a_cache_are_kept_under(tmp_path):
    """Hidden labels change no fingerprint, so the cache stays; fewer images to learn from, or wrong labels, do."""
    full, some, none = digits(tmp_path), digits(tmp_path, labelled=0.1), digits(tmp_path, labels="teacher")
    assert full.fingerprint == some.fingerprint == none.fingerprint
    assert full.labelled_only().fingerprint == full.fingerprint == none.labelled_only().fingerprint
    assert some.labelled_only().fingerprint != full.fingerprint != full.with_wrong_labels(["3"]).fingerprint
    assert some.labelled_only(1.0).fingerprint == full.fingerprint == full.with_wrong_labels([]).fingerprint


def test_alone_it_learns_from_the_labelled_images_in_as_many_steps(tmp_path):
    some = digits(tmp_path, labelled=0.01)
    alone = some.labelled_only()
    assert len(alone.configure(64, 0).train_dataloader()) == len(some.configure(64, 0).train_dataloader())
    kept = np.flatnonzero(some.training_labels != UNKNOWN)
    assert set(alone.rows["train"]) == set(some.rows["train"][kept]) and len(kept) == 13
    counts = np.unique(alone.rows["train"], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1 and not alone.hides_labels
    assert torch.equal(alone.training_labels, torch.from_numpy(alone.collection.labels[alone.rows["train"]]))


def test_what_a_teacher_learns_from(tmp_path):
    some = digits(tmp_path, labelled=0.1)
    ours = teacher_data(some, teacher(samples=None, corrupt_classes=["3", 5]))
    labels = ours.training_labels
    assert not ours.hides_labels and not torch.isin(labels, torch.tensor([3, 5])).any()
    assert len(set(ours.rows["train"])) == some.sizes["labelled"]
    assert len(set(teacher_data(some, teacher(labelled=1.0)).rows["train"])) == some.sizes["train"]
    assert torch.bincount(told(ours, "test"))[[3, 5]].min() > 30  # it is still judged by the real ones
    assert teacher_data(digits(tmp_path), teacher(labelled=None)).fingerprint == digits(tmp_path).fingerprint


def test_mixed_samples_with_a_hidden_part_are_unknown_as_a_whole(tmp_path):
    data = digits(tmp_path, augment={"mixup": 0.5}, labelled=0.5)
    batch = next(iter(data.configure(128, 0).train_dataloader()))
    hidden = (batch.labels == UNKNOWN) | (batch.partners.labels == UNKNOWN)
    labels = data.on_after_batch_transfer(batch).labels
    assert 0 < hidden.sum() < 128 and torch.equal(labels.isnan().any(1), hidden)
    torch.testing.assert_close(labels[~hidden].sum(1), torch.ones(int((~hidden).sum())))


# ------------------------------------------------------------------ training


@pytest.fixture
def fitted(network, tmp_path):
    def fit(name, data, **changes):
        strategy = parts(name) if isinstance(name, str) else name
        module = Distillation(network(), network(1, 14), strategy, input_shape=(1, 8, 8), recipe={"epochs": 1})
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        quiet |= {"enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0}
        engine = L.Trainer(max_epochs=1, limit_val_batches=0, **quiet)
        engine.fit(module, datamodule=data.configure(64, 0, module.strategy.num_views))
        return module

    return fit


# Labels alone beside maps; labels of all samples beforehand; centres of classes; two views; mixed labels
@pytest.mark.parametrize("name", ["hint", "crd", "nd", "mlkd", "wsld"])
def test_a_student_without_labels_reads_none(fitted, tmp_path, name):
    """Whatever the real labels are, the student's weights come out the same; with labels they do not."""
    numbers = {"samples": 128, "labels": "teacher", "augment": {"strong": {"operations": 1, "magnitude": 5}}}
    if name == "wsld":
        numbers["augment"] = {"mixup": 0.5}
    data = digits(tmp_path, **numbers)
    other = data.with_wrong_labels([0, 1, 2, 3])
    assert other.fingerprint != data.fingerprint
    one, two = (fitted(name, source).student.state_dict() for source in (data, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    with_labels = fitted(name, data.labelled_only()).student.state_dict()
    assert not all(torch.equal(one[key], with_labels[key]) for key in one)


def test_a_step_takes_the_teachers_class_where_the_label_is_hidden(network, digits):
    module = Distillation(network(), network(1, 14), parts("hint"), input_shape=(1, 8, 8))
    module.pseudo_labels = True
    module.teacher.request({"logits", "stages"})
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    labels[::2] = UNKNOWN
    module.eval()
    loss = module.losses(make_batch(images, labels=labels), ("ce",))["ce"]
    with torch.no_grad():
        target = torch.where(labels < 0, module.teacher.model(images).argmax(1), labels)
        expected = F.cross_entropy(module.student(images), target)
    torch.testing.assert_close(loss.detach(), expected)
    assert (target[::2] != torch.arange(16)[::2] % 10).any()


# ------------------------------------------------------------------ refusals and keys


def test_what_cannot_be_answered_is_refused(tmp_path):
    some, none = digits(tmp_path, labelled=0.5), digits(tmp_path, labels="teacher")
    typed = parse(composed(tmp_path))

    def run(data, strategy):
        return Run(replace(typed, strategy=strategy), data, Strategy.of(strategy), None)

    twice = {"twice": {"_target_": "distillab.strategies.ce.CrossEntropy"}}
    run(some, ALONE), run(some, KD), run(none, KD)
    complaint(lambda: run(none, ALONE), "no term of the strategy reads one", "strategy=kd")
    complaint(lambda: run(some, twice), "no term of the strategy reads one", "strategy=kd")
    from distillab.schemes.ema import EMA
    from distillab.schemes.ensemble import Ensemble
    from distillab.schemes.mutual import Mutual
    from distillab.schemes.self_teaching import SelfTeaching

    student = SimpleNamespace(info=SimpleNamespace(name="s", outputs=10))
    for scheme in (EMA(), Mutual(), SelfTeaching(), Ensemble([{"name": "x"}], "confidence")):
        complaint(lambda scheme=scheme: scheme.prepare(run(some, KD), student), "cannot answer", "scheme=offline")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"labels": "some"}, "data.labels must be one of all, teacher, none"), ({"labelled": 0}, "data.labelled must be a number"),
     ({"labelled": 1.5}, "data.labelled=0.1"), ({"labelled": True}, "data.labelled must be a number")],
)  # fmt: skip
def test_wrong_numbers_are_refused(tmp_path, numbers, words):
    complaint(lambda: digits(tmp_path, **numbers), words)


def test_a_ready_made_teacher_is_not_corrupted(tmp_path):
    data = digits(tmp_path)
    ready_made = teacher(corrupt_classes=["3"], checkpoint="a.pt")
    complaint(lambda: teacher_data(data, ready_made), "teacher.corrupt_classes=null")
    complaint(lambda: teacher_data(data, teacher(corrupt_classes=["x"])), 'no class "x"', "teacher.corrupt_classes=[0]")
    complaint(lambda: teacher(labelled=2), "teacher.labelled must be a number above 0", "teacher.labelled=null")


def test_store_keys_change_only_where_the_labels_do(tmp_path, network):
    from distillab.models.image_model import ImageModel
    from distillab.tasks.image_classification import ImageClassification

    model, config, keys = ImageModel(network(), (1, 8, 8)), teacher(depth=8, labelled=1.0), []
    setting = SimpleNamespace(trainer=TrainerConfig(), protocol=Protocol("standard", 0.1), task=ImageClassification())

    def note(data, strategy):
        job = Pretraining(model, config, data, Recipe(), 0, "", setting, teacher=model, strategy=strategy)
        key = job.key()
        keys.append((key["model"], key["data"], key.get("labels"), key.get("views")))

    for choice in ({}, {"labelled": 0.5}, {"labels": "teacher"}):
        note(digits(tmp_path, **choice), KD)
    assert keys[0] == ({"depth": 8}, digits(tmp_path).fingerprint, None, None)
    assert [key[2][:2] if key[2] else None for key in keys] == [None, ["all", 0.5], ["teacher", 1.0]]
    assert keys[1][2][2] == digits(tmp_path).split_seed, "which labels are known"
    for operations in (1, 2):
        data = digits(tmp_path, augment={"crop": 1, "strong": {"operations": operations}})
        note(data, parts("crld"))
    assert keys[3][1] == keys[4][1] and keys[3][3] != keys[4][3], "a strong view counts for who learns from one"
