"""What the data module, order and loader do for any kind of sample, shown with vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_checks import complaint, indices, rows
from helpers.vectors import CLASSES, LENGTH, VectorData

import distillab.data
from distillab.data.batch import AS_STORED
from distillab.data.labels import UNKNOWN


def whole(batches, name="vector"):
    return torch.cat([batch.inputs[0][name] for batch in batches])


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


def test_nothing_beside_the_images_knows_of_them():
    files = sorted(Path(distillab.data.__file__).parent.glob("*.py"))
    assert {"batch.py", "loader.py", "module.py"} <= {path.name for path in files}
    assert not [path.name for path in files if "distillab.data.images" in path.read_text()]


def test_vectors_are_split_and_described():
    data = VectorData()
    assert data.sizes == {"train": 288, "validation": 32, "test": 80} and data.info.length == LENGTH
    split = rows(data)
    assert split["train"] | split["validation"] | split["test"] == set(range(400))
    assert np.bincount(data.training_labels).tolist() == [72] * 4
    assert rows(VectorData()) == split and rows(VectorData(split_seed=1))["validation"] != split["validation"]
    assert rows(VectorData(split_seed=1))["test"] == split["test"]
    few = data.with_samples(40)
    assert few.sizes["train"] == 40 and rows(few)["train"] < split["train"] and few.collection is data.collection
    assert VectorData(validation=0).val_dataloader() == []


def test_order_and_views_are_functions_of_seed_and_epoch():
    loader = VectorData().configure(32, 5).train_dataloader()
    first, second = epoch(loader, 0), epoch(loader, 1)
    again = epoch(VectorData().configure(32, 5).train_dataloader(), 1)
    assert indices(second) == indices(again) != indices(first) and torch.equal(whole(second), whole(again))
    assert {batch.view_number for batch in second} == {1}
    other_order = epoch(VectorData().configure(32, 6).train_dataloader(), 1)
    assert indices(other_order) != indices(second)
    order = [torch.cat([batch.index for batch in batches]).argsort() for batches in (second, other_order)]
    assert torch.equal(whole(second)[order[0]], whole(other_order)[order[1]])  # a view is its sample's alone
    assert not torch.equal(whole(epoch(VectorData(view_seed=1).configure(32, 5).train_dataloader(), 1)), whole(second))
    one, two = (epoch(VectorData(views=1).configure(32, 5).train_dataloader(), number) for number in (0, 1))
    assert {batch.view_number for batch in two} == {0} and indices(one) != indices(two)


def test_evaluation_is_in_order_and_as_stored():
    data = VectorData().configure(32, 0)
    for split in ("train", "validation", "test"):
        batches = list(data.evaluation_dataloader(split))
        assert torch.equal(whole(batches), data.collection.vectors[data.rows[split]])
        assert {batch.view_number for batch in batches} == {AS_STORED}


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resume_in_mid_epoch(stop):
    data = VectorData().configure(64, 2, accumulate=2)
    expected = epoch(data.train_dataloader(), 3)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    iterator = iter(loader)
    seen = [next(iterator) for _ in range(stop)]
    resumed = data.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    resumed.sampler.set_epoch(3)
    seen += list(resumed)
    assert indices(seen) == indices(expected) and torch.equal(whole(seen), whole(expected))
    assert [batch.step_rows for batch in expected] == [128] * 4 + [32]  # 288 = 4 × 64 + 32


def test_the_fingerprint_knows_every_part_but_not_the_name():
    one = VectorData().fingerprint
    assert VectorData("others").fingerprint == one == VectorData(labelled=0.5).configure(8, 3).fingerprint
    others = [
        {"split_seed": 1}, {"view_seed": 1}, {"validation": 0.2}, {"samples": 40}, {"views": 4}, {"noise": 1.0},
    ]  # fmt: skip
    prints = {VectorData(**numbers).fingerprint for numbers in others}
    prints |= {
        VectorData().with_wrong_labels(["east"]).fingerprint,
        VectorData(labelled=0.5).labelled_only().fingerprint,
    }
    assert len({one, *prints}) == 9 and VectorData().collection.files_stamp is None


def test_labels_are_hidden_and_made_wrong():
    some = VectorData(labelled=0.25)
    assert some.hides_labels and some.sizes["labelled"] == (some.training_labels != UNKNOWN).sum() == 72
    alone = some.labelled_only()
    assert not alone.hides_labels and len(set(alone.rows["train"])) == 72 and alone.sizes["train"] == 288
    wrong = VectorData().with_wrong_labels(["east", 3])
    assert not torch.isin(wrong.training_labels, torch.tensor([1, 3])).any()
    assert wrong.class_names(["east", 3]) == [CLASSES[1], CLASSES[3]] and not wrong.mixes


def test_what_cannot_be_is_refused():
    complaint(lambda: VectorData().configure(32, 0, 2), "data=vectors", "one view")
    complaint(lambda: VectorData().configure(289, 0), "288", "recipe.batch_size=64")
    complaint(lambda: VectorData(validation=2), "data.validation=0.1")
