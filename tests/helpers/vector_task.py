"""A tiny second task: vectors with one label each, whose primary figure is an error, of which less is better."""

import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from distillab.core.instantiate import build
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.tasks.base import Task


class VectorModel(Model):
    """A perceptron of one hidden layer."""

    def __init__(self, net, length, outputs, name):
        super().__init__()
        self.net, self.length = net, length
        self.info = FeatureInfo(name, (), net[0].out_features, outputs, "2")

    def forward(self, vector):
        return self.net(vector)

    def example_inputs(self, size=2):
        return {"vector": torch.rand(size, self.length, generator=torch.Generator().manual_seed(0))}


def perceptron(width, length, outputs):
    return nn.Sequential(nn.Linear(length, width), nn.ReLU(), nn.Linear(width, outputs))


class Error(MulticlassAccuracy):
    higher_is_better = False

    def compute(self):
        return 1 - super().compute()


class VectorClassification(Task):
    name = "vector_classification"
    primary = "error"
    higher_is_better = False
    label = "error"

    def wrap(self, network, role):
        return network

    def build_model(self, config, role, data, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = build(config.builder, role, length=data.info.length, outputs=len(data.info.classes))
        return VectorModel(net, data.info.length, len(data.info.classes), config.name)

    def metrics(self, info):
        return MetricCollection({"error": Error(info.outputs, average="micro")})

    def score(self, logits, labels):
        return (logits.argmax(1) != labels).double().mean().item()

    def figures(self, logits, labels):
        return {"error": self.score(logits, labels), "nll": F.cross_entropy(logits, labels).item()}
