"""Rows weigh the same in the whole optimiser step, however it is cut into batches or turns."""

import pytest
import torch
from helpers.fits import trainer
from helpers.two_networks import PLAIN_SGD, StepGradients, distillation, rows, samples

from distillab.training import term_inputs


def step_gradients(data, batch_size, accumulate=1, told=True, weights=None):
    """The student's gradient at each optimiser step of an epoch; the loader is `told` of the steps, or not."""
    look = StepGradients()
    with distillation("kd", recipe=PLAIN_SGD) as module:
        if weights is not None:
            module.strategy.terms["ce"].of_class = weights
        ready = data.configure(batch_size, 0, accumulate=accumulate if told else 1)
        trainer(1, accumulate_grad_batches=accumulate, callbacks=[look]).fit(module, datamodule=ready)
    return look.seen


@pytest.mark.parametrize("weights", [None, torch.linspace(0.1, 5, 10)], ids=["alike", "by class"])
@pytest.mark.parametrize(
    ("batch_size", "accumulate", "steps"),
    [(96, 3, 1), (96, 2, 2)],  # 96, 96 and 64 samples in one step, or two of them and the last one in another
)
def test_uneven_batches_of_a_step_give_the_gradient_of_one_batch(batch_size, accumulate, steps, digits, weights):
    found = step_gradients(digits, batch_size, accumulate, weights=weights)
    expected = step_gradients(digits, batch_size * accumulate if steps > 1 else 256, weights=weights)
    plain = step_gradients(digits, batch_size, accumulate, told=False, weights=weights)
    assert len(found) == len(expected) == steps
    for one, other in zip(found, expected, strict=True):
        for key, gradient in other.items():
            torch.testing.assert_close(one[key], gradient, rtol=1e-4, atol=1e-6, msg=key)
    # Means of batches would be something else: their samples weigh unequally, or the last step counts half.
    assert any((plain[-1][key] - gradient).abs().max() > 1e-4 for key, gradient in expected[-1].items())


def test_no_turn_is_longer_than_said_and_each_is_taken_again_in_the_backward_pass(monkeypatch):
    monkeypatch.setattr(term_inputs, "CHUNK", 45)  # of ten classes
    with distillation("kd") as module:
        term, lengths = module.strategy.terms["kd"], []
        whole = term.rows
        term.rows = lambda student, *others: (lengths.append(len(student)), whole(student, *others))[1]
        loss = module.losses(rows(samples(), 0, 11), ("kd",))["kd"]
        assert lengths == [4, 4, 3]
        loss.backward()
        assert sorted(lengths) == [3, 3, 4, 4, 4, 4]
