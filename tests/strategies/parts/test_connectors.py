"""The modules between a student's map and a teacher's: shapes, and what they are made of."""

import pytest
import torch
from helpers.model_outputs import info
from torch import nn

from distillab.strategies.parts.connectors import MapConnector, PointBatchNorm, resized


@pytest.mark.parametrize(
    ("student", "teacher", "convolution", "kernel"),
    [
        ((4, 8, 8), (6, 8, 8), nn.Conv2d, 1),
        ((4, 8, 8), (6, 4, 4), nn.Conv2d, 3),
        ((4, 4, 4), (6, 8, 8), nn.ConvTranspose2d, 4),
        ((4, 9, 9), (6, 3, 3), nn.Conv2d, 1),
        ((4, 3, 3), (6, 9, 9), nn.Conv2d, 1),
    ],
)
def test_a_map_gets_the_teachers_shape(student, teacher, convolution, kernel):
    pair = info(student).stages[0], info(teacher).stages[0]
    connector = MapConnector(*pair)
    assert type(connector.connect[0]) is convolution and connector.connect[0].kernel_size == (kernel, kernel)
    out = connector(torch.rand(2, *student))
    assert out.shape == (2, *teacher) and (out >= 0).all()
    plain = MapConnector(*pair, activated=False)
    assert len(plain.connect) == 2
    plain = plain(torch.rand(2, *student))
    assert plain.shape == (2, *teacher) and (plain < 0).any()


def test_sizes_are_pooled_or_interpolated():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(x, (4, 4)) is x
    assert resized(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(x, (8, 8)).shape == (1, 1, 8, 8)


def test_batchnorm_of_one_value_takes_what_it_has_learned():
    norm, point = PointBatchNorm(3), torch.rand(1, 3, 1, 1)
    torch.testing.assert_close(norm(point), point, rtol=1e-4, atol=1e-5)
    assert norm(torch.rand(2, 3, 1, 1)).mean().abs() < 1e-5 and norm.num_batches_tracked == 1
