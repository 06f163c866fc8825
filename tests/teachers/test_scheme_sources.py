"""What each source of teacher outputs says: the mixture, the smoothed label, the average."""

import copy

import numpy as np
import pytest
import torch
from helpers.fits import SHAPE, models, strategy, trainer
from helpers.numbers import softmax
from torch.nn import functional as F

from distillab import Distillation, functional
from distillab.data.images.image_batch import ImageBatch
from distillab.teachers.ema import EMATeacher
from distillab.teachers.ensemble import EnsembleTeacher, Mixture
from distillab.teachers.label import LabelTeacher


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
        teacher = EnsembleTeacher(Mixture(members, weighting))
        teacher.request({"logits"})
        views = teacher(ImageBatch.of([images, images.flip(0)], labels))
        assert np.allclose(views[0].logits.exp().numpy(), expected, atol=1e-6)
        assert not views[0].logits.requires_grad and len(views) == 2
        one_hot = teacher(ImageBatch.of([images], F.one_hot(labels, 10).float()))[0].logits
        assert torch.allclose(one_hot, views[0].logits, atol=1e-6)
    assert not np.allclose(mean, weighted, atol=1e-2)


def test_an_ensemble_is_frozen_and_left_out_of_the_checkpoint(network, digits, tmp_path):
    student, *members = models(network, 8, 14, 8)
    before = copy.deepcopy([member.state_dict() for member in members])
    module = Distillation(student, EnsembleTeacher(Mixture(members)), strategy("kd"))
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    engine.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert not [key for key in saved if key.startswith("teacher.")]
    for member, old in zip(members, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in member.state_dict().items())


def test_at_temperature_20_the_smoothed_labels_are_those_of_tf_kd():
    """arXiv 1909.11723, equation 9: 0.99 and the rest, both to the power 1/20, against the student at temperature 20."""
    classes, s = 100, torch.randn(3, 100, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([7, 0, 99])
    logits = LabelTeacher(classes, 0.99)(ImageBatch.of([torch.zeros(3, 1)], labels))[0].logits
    right, wrong = 0.99 ** (1 / 20), (0.01 / 99) ** (1 / 20)
    p = np.full((3, classes), wrong / (right + 99 * wrong))
    p[np.arange(3), labels] = right / (right + 99 * wrong)
    q = softmax(s.numpy() / 20)
    expected = 400 * (p * np.log(p / q)).sum(1).mean()
    assert functional.kd(s, logits.double(), 20.0).item() == pytest.approx(expected, rel=1e-4)


def test_the_virtual_teacher_is_the_smoothed_label():
    teacher = LabelTeacher(4, 0.9)
    said = teacher(ImageBatch.of([torch.zeros(2, 1)] * 2, torch.tensor([2, 0])))
    rest = 0.1 / 3
    expected = torch.tensor([[rest, rest, 0.9, rest], [0.9, rest, rest, rest]])
    assert len(said) == 2 and torch.allclose(said[1].logits.exp(), expected)
    shares = torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    mixed = teacher(ImageBatch.of([torch.zeros(1, 1)], shares))[0].logits.exp()
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
    assert module.teacher.average.n_averaged - 1 == engine.global_step == 2


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_the_average_takes_its_step_and_goes_on_from_a_state(network, decay):
    """a ← d·a + (1 − d)·s with d = min(decay, n / (n + 1)), also where another one takes up its state in between."""
    (student,) = models(network, 8)
    teacher, generator = EMATeacher(student, decay), torch.Generator().manual_seed(0)
    for step in range(1, 5):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        before, d = copy.deepcopy(teacher.model.state_dict()), min(decay, step / (step + 1))
        teacher.after_step(student)
        for key, value in student.state_dict().items():
            expected = d * before[key] + (1 - d) * value if value.is_floating_point() else value
            torch.testing.assert_close(teacher.model.state_dict()[key], expected, rtol=1e-6, atol=1e-6)
        if step == 2:
            state, teacher = copy.deepcopy(teacher.state_dict()), EMATeacher(student, decay)
            teacher.load_state_dict(state, strict=True)
    assert teacher.average.n_averaged == 5 and not any(p.requires_grad for p in teacher.parameters())
