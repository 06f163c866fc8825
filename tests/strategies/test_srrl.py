"""Softmax regression: the teacher's head on the student's embedding (srrl)."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.fits import assert_learns, distillation, make_batch, make_images, ordered_teachers, strategy
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from helpers.numbers import draw
from torch import nn

from distillab.core.errors import UserError
from distillab.models.feature_info import Stage
from distillab.strategies.srrl import SRRL


class TestSRRL(MethodTester):
    configs = ("srrl",)
    by_hand = {"SRRL": lambda: test_srrl_is_the_error_of_embedding_and_logits()}
    hand_mutations = [
        (
            "SRRL",
            "F.linear(embedding, teacher.head.weight, teacher.head.bias)",
            "F.linear(embedding, teacher.head.weight)",
            "no bias",
        ),
        ("SRRL", "hint(embedding, teacher.embedding) +", "", "the logits alone"),
    ]


def test_what_the_term_trains():
    assert_learns("srrl", lambda module: module.strategy.terms["srrl"].connector.parameters())


def test_srrl_is_the_error_of_embedding_and_logits():
    module = distillation("srrl").eval()
    term = module.strategy.terms["srrl"]
    read, images = {}, make_images()
    term.connector.register_forward_hook(lambda _, __, output: read.update(map=output))
    loss = module.losses(make_batch(make_images()), ("srrl",))["srrl"]
    with torch.no_grad():
        teacher, embedding = module.teacher.model.net, read["map"].mean((2, 3))
        true = nn.Sequential(teacher.conv1, teacher.bn1, teacher.relu, teacher.layer1, teacher.layer2, teacher.layer3)(
            images
        ).mean((2, 3))
        expected = (embedding - true).square().mean() + (teacher.fc(embedding) - teacher.fc(true)).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_embedding_is_projected_as_in_simkds_comparison():
    """BatchNorm over the samples alone, behind the pooling: written out layer by layer."""
    config = strategy("srrl")
    config["srrl"]["reads"] = "embedding"
    module = distillation(config)
    term = module.strategy.terms["srrl"].train()
    term.connector.connect[1].weight.data.uniform_(0.5, 1.5)
    batch, read = make_batch(make_images()), {}
    module.student.net.fc.register_forward_pre_hook(lambda _, args: read.update(embedding=args[0]))
    loss = module.losses(batch, ("srrl",))["srrl"]
    with torch.no_grad():
        convolution, norm, _ = term.connector.connect
        x = read["embedding"] @ convolution.weight[:, :, 0, 0].T
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
        teacher, x = module.teacher(batch)[0], x.relu()
        errors = [x - teacher.embedding, teacher.head(x) - teacher.head(teacher.embedding)]
        expected = sum(error.square().mean() for error in errors)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert term.smallest_batch == 2


@pytest.mark.parametrize("reads", ["last_map", "embedding"])
def test_a_convolution_behind_the_last_stage_is_part_of_what_is_read(reads):
    """MobileNetV2 and ShuffleNetV2 pool the map of a further convolution, not that of their last stage."""
    student = replace(info((8, 4, 4), embedding=16), final=Stage("final", 16, 4, 4))
    term = SRRL(reads=reads)
    term.connect(student, info((8, 4, 4), embedding=5))
    assert term.connector.connect[0].in_channels == 16 and term.connector.connect[0].out_channels == 5
    maps = SimpleNamespace(last_map=draw(3, 16, 4, 4).float(), embedding=draw(3, 16).float())
    head = nn.Linear(5, 10)
    teacher = SimpleNamespace(embedding=draw(3, 5).float(), logits=draw(3, 10).float(), head=head)
    assert torch.isfinite(term(maps, teacher, None)) and set(term.needs) & {"student.stages"} == set()


def test_other_outputs_are_refused():
    with pytest.raises(UserError, match="reads must be one of last_map, embedding"):
        SRRL(reads="stages")
    headless = info((8, 4, 4), embedding=None, name="headless")
    with pytest.raises(UserError, match=r"headless has no linear head.*student\.head="):
        SRRL(reads="embedding").connect(headless, info((8, 4, 4)))


def test_a_teachers_class_order_is_followed():
    """A teacher whose outputs stand in another order teaches the same."""
    pair = [distillation("srrl", teacher=teacher).eval() for teacher in ordered_teachers()]
    torch.testing.assert_close(*(module.losses(make_batch(make_images()), ("srrl",))["srrl"] for module in pair))


def test_a_teacher_without_a_head_is_refused():
    narrow, headless = info((8, 4, 4), embedding=16, name="narrow"), info((8, 4, 4), embedding=None, name="headless")
    with pytest.raises(UserError, match=r"headless has no linear head.*teacher\.head="):
        SRRL().connect(narrow, headless)
