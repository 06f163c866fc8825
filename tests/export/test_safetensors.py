"""The exported student: tensors that share memory."""

import pytest
import torch
from helpers.fits import SHAPE, make_images
from torch import nn

from distillab.core.errors import UserError
from distillab.export.safetensors import check_export, save_model
from distillab.models.checkpoint import load_weights, read_weights
from distillab.models.image_model import ImageModel


class Shared(nn.Module):
    """One convolution under two names, tied layers, a view of a tensor, and a buffer that is a parameter's memory."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.middle = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.middle
        self.tied = nn.Conv2d(4, 4, 3, padding=1)
        self.tied.weight = self.middle.weight
        self.part = nn.Parameter(self.stem.bias.data[:2])
        self.register_buffer("alias", self.stem.weight.data)
        self.register_buffer("turned", self.middle.weight.data.transpose(2, 3))
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        x = self.tied(self.again(self.middle(self.stem(x)).relu()).relu())
        return self.fc(x.mean((2, 3))) + self.part.sum() + self.alias.sum() + self.turned[0, 0, 0, 1]


class Stateful(Shared):
    """A network with a state that is no tensor."""

    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        pass


def test_weights_that_share_memory_are_exported_and_load_again(tmp_path):
    model, other = (ImageModel(Shared(seed), SHAPE).eval() for seed in (1, 2))
    check_export(model, "student")
    save_model(model, tmp_path / "a.safetensors", {}, ["a"])
    load_weights(other.net, read_weights(tmp_path / "a.safetensors")[0], "shared", "a", key="student.checkpoint")
    assert other.net.again is other.net.middle and not torch.equal(Shared(2)(make_images()), other.net(make_images()))
    assert torch.equal(model(make_images()), other(make_images()))


def test_what_cannot_be_exported_is_told_before_training():
    with pytest.raises(
        UserError, match=r"student: Stateful cannot be exported \(_extra_state of its state is no tensor"
    ):
        check_export(ImageModel(Stateful(1), SHAPE), "student")
