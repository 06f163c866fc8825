"""What each source of teacher outputs says: the mixture, the smoothed label, the average."""

import copy

import numpy as np
import pytest
import torch
from helpers.fits import SHAPE, models, strategy, trainer
from helpers.numbers import softmax
from torch.nn import functional as F

from distillab import Distillation
from distillab.schemes.ema import EMATeacher
from distillab.schemes.ensemble import EnsembleTeacher
from distillab.schemes.self_teaching import LabelTeacher


def test_the_ensemble_is_the_mixture(network):
    members = models(network, 8, 14, 8)
    for i, member in enumerate(members):
        member.net.fc.weight.data *= 10 * (i + 1)  # so that they differ in what they are sure of
    images, labels = torch.rand(5, *SHAPE), torch.arange(5)
    with torch.no_grad():
        said = np.stack([softmax(m.eval()(images).double().numpy()) for m in members])
    mean = said.mean(0)
    confidence = said[:, np.arange(5), labels.numpy()]
    weighted = (said * (confidence / confidence.sum(0))[..., None]).sum(0)
    for weighting, expected in (("mean", mean), ("confidence", weighted)):
        teacher = EnsembleTeacher(members, weighting)
        teacher.request({"logits"})
        views = teacher.outputs([images, images.flip(0)], labels)
        assert np.allclose(views[0].logits.exp().numpy(), expected, atol=1e-6)
        assert not views[0].logits.requires_grad and len(views) == 2
        one_hot = teacher.outputs([images], F.one_hot(labels, 10).float())[0].logits
        assert torch.allclose(one_hot, views[0].logits, atol=1e-6)
    assert not np.allclose(mean, weighted, atol=1e-2)


def test_an_ensemble_is_frozen_and_left_out_of_the_checkpoint(network, digits, tmp_path):
    student, *members = models(network, 8, 14, 8)
    before = copy.deepcopy([member.state_dict() for member in members])
    module = Distillation(student, EnsembleTeacher(members), strategy("kd"))
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    engine.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert not [key for key in saved if key.startswith("teacher.")]
    for member, old in zip(members, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in member.state_dict().items())


def test_the_virtual_teacher_is_the_smoothed_label():
    teacher = LabelTeacher(4, 0.9)
    said = teacher.outputs([torch.zeros(2, 1)] * 2, torch.tensor([2, 0]))
    rest = 0.1 / 3
    expected = torch.tensor([[rest, rest, 0.9, rest], [0.9, rest, rest, rest]])
    assert len(said) == 2 and torch.allclose(said[1].logits.exp(), expected)
    mixed = teacher.outputs([torch.zeros(1, 1)], torch.tensor([[0.5, 0.0, 0.5, 0.0]]))[0].logits.exp()
    assert torch.allclose(mixed, expected.mean(0)[None])


@pytest.mark.parametrize("decay", [0.6, 0.99])
def test_the_average_has_its_closed_form(network, decay):
    """First the plain mean of all states, then Σ (1 − d) d^k s_(n−k) from that mean on."""
    (student,) = models(network, 8)
    teacher = EMATeacher(student, decay)
    generator, states = torch.Generator().manual_seed(0), [copy.deepcopy(student.state_dict())]
    for step in range(1, 7):
        for value in student.state_dict().values():
            value.add_(torch.randn(value.shape, generator=generator) if value.is_floating_point() else 1)
        states.append(copy.deepcopy(student.state_dict()))
        teacher.after_step(student)
        grown = max(n for n in range(step + 1) if n / (n + 1) <= decay)  # steps with a plain mean
        for key in ("net.fc.weight", "net.layer1.0.bn1.running_mean"):
            expected = sum(state[key] for state in states[: grown + 1]) / (grown + 1) * decay ** (step - grown)
            expected = expected + sum(
                (1 - decay) * decay ** (step - n) * states[n][key] for n in range(grown + 1, step + 1)
            )
            assert torch.allclose(teacher.model.state_dict()[key], expected, atol=1e-5), (step, key)
    counter = "net.layer1.0.bn1.num_batches_tracked"
    assert torch.equal(teacher.model.state_dict()[counter], student.state_dict()[counter])
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.train().model.training


def test_the_average_follows_optimiser_steps_not_batches(network, digits):
    (student,) = models(network, 8)
    module = Distillation(student, EMATeacher(student, 0.5), strategy("kd"))
    engine = trainer(1, accumulate_grad_batches=2)
    engine.fit(module, datamodule=digits.configure(64, 0))
    assert module.teacher.steps == engine.global_step == 2
