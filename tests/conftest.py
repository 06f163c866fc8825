"""Small real data and networks that several tests share."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from distillab.data.images.sources import Digits
from distillab.models.zoo.cifar_resnet import CifarResNet


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    augment = {"crop": 1, "strong": {"operations": 2, "magnitude": 5, "cutout": 0.25}}
    data = Digits("digits", tmp_path_factory.mktemp("store"), samples=256, augment=augment)
    data.prepare()
    return data


@pytest.fixture
def network():
    def make(seed=0, depth=8, classes=10):
        torch.manual_seed(seed)
        return CifarResNet(depth, num_classes=classes, in_channels=1)

    return make


@pytest.fixture
def plain_loader(digits):
    batches = list(digits.configure(64, 0).train_dataloader())
    images = torch.cat([batch.pixels[0] for batch in batches]).float() / 255
    return DataLoader(TensorDataset(images, torch.cat([batch.labels for batch in batches])), batch_size=64)
