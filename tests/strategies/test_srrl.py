"""Softmax regression: the teacher's head on the student's embedding (srrl)."""

import pytest
import torch
from helpers.fits import assert_learns, distillation, make_batch, make_images, ordered_teachers
from helpers.method_tester import MethodTester
from helpers.model_outputs import info
from torch import nn

from distillab.core.errors import UserError
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


def test_a_teachers_class_order_is_followed():
    """A teacher whose outputs stand in another order teaches the same."""
    pair = [distillation("srrl", teacher=teacher).eval() for teacher in ordered_teachers()]
    torch.testing.assert_close(*(module.losses(make_batch(make_images()), ("srrl",))["srrl"] for module in pair))


def test_a_teacher_without_a_head_is_refused():
    narrow, headless = info((8, 4, 4), embedding=16, name="narrow"), info((8, 4, 4), embedding=None, name="headless")
    with pytest.raises(UserError, match=r"headless has no linear head.*teacher\.head="):
        SRRL().connect(narrow, headless)
