"""What the losses over features share: directions with small gradients, and the models that they refuse."""

import pytest
import torch
from helpers.fits import SHAPE, distillation, make_batch, make_images
from helpers.model_outputs import info
from helpers.numbers import draw
from torch import nn

from distillab.core.errors import UserError
from distillab.models.image_model import ImageModel
from distillab.strategies.cat import ClassAttention
from distillab.strategies.fsp import FSP
from distillab.strategies.kdsvd import KDSVD
from distillab.strategies.parts.features import check_same_channels, check_same_shape, pool_to_smaller, root, unit
from distillab.strategies.simkd import SimKD


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check_same_shape(a=draw(2, 3), b=draw(2, 4)), r"a and b must have one shape, got \(2, 3\) and \(2, 4"),
        (lambda: check_same_channels(a=draw(2, 3), b=draw(2, 4)), "a and b must have equal channels, got 3 and 4"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


def test_roots_and_directions_of_zero_have_a_gradient_of_zero():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    assert root(x.square().sum(-1)).tolist() == [0, 5]
    torch.testing.assert_close(unit(x), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    (gradient,) = torch.autograd.grad(root(x.square().sum(-1)).sum() + unit(x).square().sum(), x)
    assert torch.isfinite(gradient).all() and gradient[0].tolist() == [0, 0]


def test_the_larger_of_two_maps_is_pooled():
    large, small = draw(2, 3, 4, 4), draw(2, 5, 2, 2, seed=1)
    for a, b in (pool_to_smaller(large, small), reversed(pool_to_smaller(small, large))):
        assert b is small
        torch.testing.assert_close(a, large.view(2, 3, 2, 2, 2, 2).mean((3, 5)))


@pytest.mark.parametrize("term", [FSP, KDSVD])
def test_unequal_channels_and_a_single_stage_are_refused_with_an_alternative(term):
    with pytest.raises(UserError, match=r"layer1 \(8×4×4\) where net has layer1 \(16×4×4\); choose strategy=attention"):
        term().connect(info((4, 8, 8), (8, 4, 4)), info((4, 8, 8), (16, 4, 4)))
    with pytest.raises(UserError, match="neighbouring stages"):
        term().connect(info((4, 8, 8)), info((4, 8, 8)))


@pytest.mark.parametrize("term", [SimKD, ClassAttention])
def test_a_head_that_does_not_read_the_last_map_is_refused(term):
    narrow = info((8, 4, 4), embedding=16, name="narrow")
    with pytest.raises(UserError, match="the head of narrow does not read the mean of its last map"):
        term().connect(narrow, narrow)


class MaxPooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.layer1(x).amax((2, 3)))


@pytest.mark.parametrize("name", ["simkd", "cat"])
def test_a_head_that_reads_maxima_is_refused(name):
    """The widths agree."""
    module = distillation(name, teacher=ImageModel(MaxPooled(), SHAPE, stages=["layer1"])).eval()
    with pytest.raises(UserError, match="MaxPooled does not read the mean"):
        module.losses(make_batch(make_images()), (name,))
