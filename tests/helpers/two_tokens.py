"""A small transformer with a class token and a distillation token, and which strategies need such a student."""

import torch
from torch import nn

from distillab.strategies.strategy import Strategy


class Attending(nn.Module):
    """Each token's mean of all tokens, weighted by what they have in common, and a layer on top."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.layer = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        read = self.norms[0](x)
        x = x + (self.query(read) @ self.key(read).mT / x.shape[-1] ** 0.5).softmax(-1) @ self.value(read)
        return x + self.layer(self.norms[1](x))


class TwoTokens(nn.Module):
    """Of the digits' shape; its heads have DeiT's names, its output is the mean of both."""

    def __init__(self, width=32, classes=10):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.tokens = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.places = nn.Parameter(torch.randn(1, 16, width) / width**0.5)
        self.blocks = nn.Sequential(Attending(width), Attending(width))
        self.head, self.head_dist = nn.Linear(width, classes), nn.Linear(width, classes)

    def heads(self, images):
        """Logits of the class token and of the distillation token."""
        places = self.patches(images).flatten(2).mT + self.places
        read = self.blocks(torch.cat([self.tokens.expand(len(images), -1, -1), places], 1))
        return self.head(read[:, 0]), self.head_dist(read[:, 1])

    def forward(self, images):
        return sum(self.heads(images)) / 2


def two_tokens(seed=0):
    """One with its own weights."""
    torch.manual_seed(seed)
    return TwoTokens()


def needs_token(parts):
    """Whether a strategy, given by its config, reads a distillation token."""
    return "token_logits" in Strategy.of(parts).needs("student")
