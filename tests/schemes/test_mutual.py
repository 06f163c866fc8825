"""Peers who learn from each other, and the resume of everyone who changes while teaching."""

import copy

import lightning as L
import pytest
import torch
from test_module import stop_and_resume, strategy, trainer
from test_scheme_sources import SHAPE, models
from torch.nn import functional as F

from distillab import Distillation
from distillab.data.images.image_batch import ImageBatch
from distillab.functional import kd
from distillab.schemes.mutual import MutualDistillation
from distillab.teachers.ema import EMATeacher


def mutual(network, name="kd", depths=(8, 14)):
    return MutualDistillation(models(network, *depths), strategy(name), recipe={"lr": 1e-3})


def batch_of(n=6):
    return ImageBatch.of(
        [torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))], torch.arange(n), torch.arange(n)
    )


def test_the_loss_is_that_of_each_peer_with_each_other_one(network):
    module = mutual(network, depths=(8, 14, 8)).eval()
    batch = batch_of()
    losses = module.losses(batch, ("ce", "kd"))
    logits = [peer(batch.pixels[0]) for peer in (module.student, *module.peers)]
    ce = sum(0.1 * F.cross_entropy(z, batch.labels) for z in logits)
    pairs = sum(0.9 * kd(logits[i], logits[j]) for i in range(3) for j in range(3) if i != j) / 2
    assert torch.allclose(losses["ce"], ce) and torch.allclose(losses["kd"], pairs)


@pytest.mark.parametrize("name", ["kd", "hint"])
def test_no_gradient_reaches_the_peer_who_teaches(network, name):
    """A peer's gradient is that of its own lesson, from a teacher that is fixed."""
    module, batch = mutual(network, name).eval(), batch_of()
    total = sum(module.losses(batch, tuple(module.strategy.terms)).values())
    peers = [module.student, module.peers[0]]
    lessons = [module.strategy, module.further[0]]
    for i, (learner, lesson) in enumerate(zip(peers, lessons, strict=True)):
        alone = Distillation(copy.deepcopy(learner), copy.deepcopy(peers[1 - i]), strategy(name)).eval()
        alone.strategy.load_state_dict(lesson.state_dict())
        expected = torch.autograd.grad(
            sum(alone.losses(batch, tuple(alone.strategy.terms)).values()), list(alone.student.parameters())
        )
        own = torch.autograd.grad(total, list(learner.parameters()), retain_graph=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, expected, strict=True))
        assert any(a.abs().sum() > 0 for a in own)


def test_one_optimiser_trains_all_peers_and_their_connectors(network, digits):
    module = mutual(network, "hint")
    before = copy.deepcopy(module.state_dict())
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    held = {id(p) for group in engine.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.parameters()}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
    assert module.deployed() is module.student


def test_schedules_reach_every_pair(network, digits):
    parts = strategy("kd")
    parts["kd"]["weight"] = {"value": 1.0, "start": 5}
    module = MutualDistillation(models(network, 8, 8), parts)
    seen = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.extend(own.terms["kd"].weight for own in (module.strategy, *module.further))

    trainer(1, callbacks=[Look()]).fit(module, datamodule=digits.configure(64, 0))
    assert seen and set(seen) == {0.0}


@pytest.mark.parametrize("stop_at", [3, 6])
@pytest.mark.parametrize("scheme", ["ema", "mutual"])
def test_a_stop_in_mid_epoch_and_a_resume_end_in_the_unbroken_state(scheme, stop_at, network, digits, tmp_path):
    made = []

    def make():
        if scheme == "mutual":
            module = mutual(network, "hint")
        else:
            (student,) = models(network, 8)
            module = Distillation(student, EMATeacher(student, 0.7), strategy("kd"), recipe={"lr": 1e-3})
        made.append(module)
        return module

    stop_and_resume(make, lambda module: digits.configure(64, 0), stop_at, 2, tmp_path)  # 4 steps an epoch
    whole, _, resumed = (module.state_dict() for module in made)
    assert any(key.startswith(("teacher.", "peers.")) for key in whole)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
