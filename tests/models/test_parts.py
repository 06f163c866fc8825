"""Large images are computed in parts, to the same outputs."""

import pytest
import torch
from helpers.fits import small

from distillab.data.batch import Batch
from distillab.models import parts
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.image_model import ImageModel
from distillab.models.parts import in_parts
from distillab.teachers.frozen import FrozenTeacher


@pytest.mark.parametrize(("numbers", "sizes"), [(10**6, [7]), (3 * 64, [3, 3, 1]), (1, [1] * 7)])
def test_a_frozen_teacher_gives_the_same_in_parts(numbers, sizes, monkeypatch):
    monkeypatch.setattr(parts, "AT_ONCE", numbers)
    model = ImageModel(small(1), (1, 8, 8), "resnet8").double().eval()
    images = torch.rand(7, 1, 8, 8, dtype=torch.float64)
    assert [len(part["pixels"]) for part in in_parts(model, {"pixels": images})] == sizes
    needs = {"logits", "embedding", "stages", "head"}
    expected = FeatureExtractor(model, needs)(pixels=images)
    teacher = FrozenTeacher(model)
    teacher.request(needs)
    (found,) = teacher(Batch([{"pixels": images}], {}, torch.arange(7)))
    assert torch.allclose(found.logits, expected.logits) and torch.allclose(found.embedding, expected.embedding)
    assert all(torch.allclose(*pair) for pair in zip(found.stages, expected.stages, strict=True))
    assert torch.equal(found.head.weight, expected.head.weight)


def test_other_inputs_than_images_stay_whole():
    class Words:
        pass

    assert [len(part["ids"]) for part in in_parts(Words(), {"ids": torch.zeros(5, 3)})] == [5]
