"""Studies of a teacher's weak classes in which the truth is known."""

import torch

from distillab.evaluation.limits import limits

NAMES = ["aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def logits_of(answers, classes=10, margin=2.0):
    """Logits whose largest is the answer; `margin` is one number or one per sample."""
    return torch.nn.functional.one_hot(answers, classes) * torch.as_tensor(margin).reshape(-1, 1)


def answers_of(labels, accuracy, generator):
    """Right with the probability `accuracy[label]`, else one of the other classes."""
    other = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
    return torch.where(torch.rand(labels.shape, generator=generator) < torch.tensor(accuracy)[labels], labels, other)


def study(bad=(), samples=400, seed=0, follows=0.8):
    """A teacher that is bad at some classes, a student alone, and one that answers as the teacher does mostly."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(10).repeat_interleave(samples)
    teacher = answers_of(labels, [0.4 if name in bad else 0.9 for name in NAMES], generator)
    alone = answers_of(labels, [0.75] * 10, generator)
    distilled = torch.where(torch.rand(labels.shape, generator=generator) < follows, teacher, alone)
    return limits(labels, logits_of(teacher), logits_of(alone), logits_of(distilled), class_names=NAMES)
