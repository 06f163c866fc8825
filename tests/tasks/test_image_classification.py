"""What a plain loader may yield under a plain Trainer, and what is refused in words."""

import pytest
import torch
from helpers.data_checks import complaint
from helpers.fits import SHAPE, assert_equal, distillation, trainer, weights
from torch.utils.data import DataLoader

from distillab.tasks.image_classification import ImageClassification

IMAGES = torch.randint(0, 256, (16, *SHAPE), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(16) % 10


def loader(make):
    return DataLoader([make(image, label) for image, label in zip(IMAGES, LABELS, strict=True)], batch_size=8)


def fitted(make, strategy="kd", **validation):
    module = distillation(strategy)
    trainer(1).fit(module, loader(make), **{key: loader(one) for key, one in validation.items()})
    return weights(module)


def test_pairs_mappings_and_bytes_are_one_batch():
    """uint8 images are brought to [0, 1]; the keys of torchvision's, Hugging Face's and many people's mappings are known."""
    ways = (
        lambda image, label: (image / 255, label),
        lambda image, label: (image, label, "its path"),
        lambda image, label: {"image": image, "label": label.int()},
        lambda image, label: {"pixel_values": image / 255, "labels": label},
    )
    first, *others = (fitted(way) for way in ways)
    for other in others:
        assert_equal(first, other)


def shares(image, label):
    return image, 0.7 * torch.eye(10)[label] + 0.3 * torch.eye(10)[0]


def test_shares_of_classes_are_learned_where_every_term_can(network):
    """As torchvision's MixUp gives them; the loss is torch's own."""
    module = distillation("none")
    module.eval()
    images, labels = next(iter(loader(shares)))
    batch = module.task.as_batch((images, labels), 10)
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(module.student(images / 255), labels)
        torch.testing.assert_close(module.losses(batch, ("ce",))["ce"], expected)
    fitted(shares)
    complaint(lambda: fitted(shares, "dkd"), "strategy.dkd takes samples of one class each")
    complaint(lambda: fitted(lambda *pair: pair, val_dataloaders=shares), "validate without mixed samples")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda image, label: (image, torch.eye(10)[label] + torch.eye(10)[9 - label]),
            "several classes of one sample",
        ),
        (lambda image, label: (image, label / 10), "numbers to be predicted"),
        (lambda image, label: (image, label[None].float()), "one class number"),
        (lambda image, label: (image, label + 5), "from 0 to 9"),
        (lambda image, label: {"picture": image, "label": label}, "keys picture, label"),
        (lambda image, label: {"image": image, "img": image, "label": label}, "keys image, img, label"),
        (lambda image, label: image, "takes batches of a distillab data module"),
        (lambda image, label: (image.flatten(), label), "(N, channels, height, width)"),
    ],
)
def test_what_no_term_can_learn_from_is_refused_in_words(make, words):
    complaint(lambda: fitted(make), words)


def test_a_batch_of_ones_own_data_module_is_checked_too():
    complaint(lambda: ImageClassification().as_batch([IMAGES, LABELS.float()], 10), "one class number")
