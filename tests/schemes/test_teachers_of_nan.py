"""A teacher that answers NaN or infinity is refused before anything is trained, with how often it does so."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distillab.core.configuration import ModelConfig, TrainerConfig
from distillab.core.errors import UserError
from distillab.core.recipe import Protocol
from distillab.models.image_model import ImageModel
from distillab.schemes import measure as measuring
from distillab.schemes import pretrain
from distillab.schemes.pretrain import obtain_teacher
from distillab.schemes.setting import Setting
from distillab.schemes.store import Store
from distillab.tasks.image_classification import ImageClassification


class Blind(nn.Module):
    """Features that are `value` where the upper left pixel is white, as it is in no digit, and a head on them."""

    def __init__(self, value):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.value = nn.Conv2d(1, 8, 3), nn.Linear(8, 10), value

    def forward(self, images):
        features = self.conv(images).relu().mean((2, 3))
        return self.head(torch.where(images[:, 0, :1, 0] > 0, self.value, features))


def marked(data, split, count):
    """The same data in which so many images of a split have that pixel white."""
    images = data.collection.images.clone()
    images[data.rows[split][:count], :, 0, 0] = 255
    return data._clone(collection=replace(data.collection, images=images, content=f"{split} {count}"))


def obtained(data, place, adapt=None, value=float("nan")):
    model = ImageModel(Blind(value), (1, 8, 8), "blind", mean=[0.5], std=[0.5])
    file = place / "blind.safetensors"
    save_file(model.net.state_dict(), file)
    recipe = {"epochs": 1, "batch_size": 32}
    config = ModelConfig.of({"_target_": "x.y", "checkpoint": str(file), "adapt": adapt, "recipe": recipe, "seed": 0})
    trainer = TrainerConfig(accelerator="cpu", progress_bar=False)
    run = Setting(Store(place / "store"), Protocol("standard", 0.1), trainer, ImageClassification())
    return obtain_teacher(model, config, data, run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("adapt", "split"),
    [
        *((adapt, split) for adapt in ("head", "none") for split in ("train", "validation", "test")),
        *((adapt, split) for adapt in (None, "all") for split in ("validation", "test")),  # a fit names those of train
    ],
)
def test_it_is_refused_with_the_number_of_images(value, adapt, split, few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "fit", lambda *_, **__: pytest.fail("it was trained"))
    data = marked(few_digits, split, 3)
    many = len(data.rows["all"]) if split == "train" else data.sizes[split]  # a teacher reads all training images
    what = "features of" if adapt in ("head", "none") and split != "test" else "answers to"
    said = rf"blind gives NaN or infinite numbers as {what} 3 of {many:,} samples \({split}\); .*teacher\.checkpoint=…"
    for _ in range(2):  # and nothing of it is kept that the next run would take for whole
        with pytest.raises(UserError, match=said):
            obtained(data, tmp_path, adapt, value)


def test_a_head_that_an_earlier_version_kept_is_refused_too(few_digits, tmp_path, monkeypatch):
    data = marked(few_digits, "test", 3)
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "check_rows", lambda *_: None)
        assert not obtained(data, tmp_path, "head").training.reused
    with pytest.raises(UserError, match="answers to 3 of"):
        obtained(data, tmp_path, "head")


def test_finite_answers_are_taken(few_digits, tmp_path):
    assert obtained(marked(few_digits, "test", 3), tmp_path, "head", value=-1.0).scores["test"] > 0.1
