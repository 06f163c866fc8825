"""The proof of an exported file: what it finds, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distillab.core.errors import UserError
from distillab.evaluation import efficiency, exported

PIXELS = torch.randint(256, (1000, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Data:
    """Images in batches of 300, their values in [0, 1] as a data module gives them."""

    def __init__(self, more=0.0):
        self.values = PIXELS.float() / 255 + more

    def evaluation_dataloader(self, split):
        assert split == "validation"
        return self.values.split(300)

    def on_after_batch_transfer(self, batch, number):
        return SimpleNamespace(inputs=[{"pixels": batch}])


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(efficiency, "steady_timings", lambda call, *_: (call(), ([0.002, 0.004, 0.009], 0.1))[1])
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)


def proof(network, change=lambda logits: logits):
    expected = network(PIXELS.float() / 255)
    found = exported.prove(lambda pixels: change(network(pixels.float() / 255)), Data(), "validation", expected)
    return found, expected


def test_a_file_that_is_the_student(network):
    found, expected = proof(network)
    assert torch.allclose(found.logits, expected) and found.difference < 1e-6 and found.same_answers == 1
    assert found.latency_ms == pytest.approx(4) and found.latency_spread == 0.1
    assert found.threads == torch.get_num_threads()
    exported.check(found, expected, "student.onnx", exact=True)


def test_the_largest_difference_and_the_same_answers_are_over_all_samples(network):
    def change(logits):
        if len(logits) == 100:  # the last batch alone
            logits = logits.clone()
            logits[:7] = logits[:7].roll(1, 1) + 0.25
        return logits

    found, _ = proof(network, change)
    assert found.same_answers == pytest.approx(1 - 7 / 1000) and found.difference > 0.25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda logits: logits + 0.01,
            "student.onnx is not the student that was measured, and is not kept: its logits",
        ),
        (lambda logits: logits * float("nan"), "NaN or infinite numbers, and is not kept"),
    ],
)
def test_a_file_that_is_another_network_is_refused(network, change, said):
    found, expected = proof(network, change)
    with pytest.raises(UserError, match=said):
        exported.check(found, expected, "student.onnx", exact=True)


def test_small_differences_that_change_answers_are_refused(network):
    found, expected = proof(network)
    found = found._replace(difference=5e-5, same_answers=0.9989)
    with pytest.raises(UserError, match=r"answers alike on 99.89 % of the samples, and 99.9 % are needed"):
        exported.check(found, expected, "student.onnx", exact=True)
    exported.check(found._replace(same_answers=0.999), expected, "student.onnx", exact=True)


def test_large_logits_may_differ_by_more(network):
    found, expected = proof(network)
    found = found._replace(difference=5e-3)
    exported.check(found, 100 * expected / expected.abs().max(), "student.onnx", exact=True)
    with pytest.raises(UserError, match=r"0\.005, and 0\.0001 are allowed"):
        exported.check(found, expected / expected.abs().max(), "student.onnx", exact=True)


def test_8_bits_are_another_network_which_answers_at_all(network):
    found, expected = proof(network, lambda logits: logits + 0.3)
    exported.check(found, expected, "student.int8.onnx", exact=False)
    with pytest.raises(UserError, match=r"student\.int8\.onnx answers with NaN"):
        exported.check(found._replace(difference=float("nan")), expected, "student.int8.onnx", exact=False)


def test_images_of_more_than_8_bits_are_refused():
    with pytest.raises(UserError, match=r"more than 8 bits.*export=\[\]"):
        list(exported.decoded(Data(0.001), "validation"))
