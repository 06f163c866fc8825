"""Rows weigh the same in the whole optimiser step, however it is cut into batches or turns."""

import pytest
import torch
from helpers.two_networks import PLAIN_SGD, ROWWISE, StepGradients, distillation, in_double, rows, samples, show_data
from test_module import trainer

from distillab.training import term_inputs


def step_gradients(data, batch_size, accumulate=1, told=True):
    """The student's gradient at each optimiser step of an epoch; the loader is `told` of the steps, or not."""
    look = StepGradients()
    with distillation("kd", recipe=PLAIN_SGD) as module:
        ready = data.configure(batch_size, 0, accumulate=accumulate if told else 1)
        trainer(1, accumulate_grad_batches=accumulate, callbacks=[look]).fit(module, datamodule=ready)
    return look.seen


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "steps"),
    [(96, 3, 1), (96, 2, 2)],  # 96, 96 and 64 samples in one step, or two of them and the last one in another
)
def test_uneven_batches_of_a_step_give_the_gradient_of_one_batch(batch_size, accumulate, steps, digits):
    found = step_gradients(digits, batch_size, accumulate)
    expected = step_gradients(digits, batch_size * accumulate if steps > 1 else 256)
    plain = step_gradients(digits, batch_size, accumulate, told=False)
    assert len(found) == len(expected) == steps
    for one, other in zip(found, expected, strict=True):
        for key, gradient in other.items():
            torch.testing.assert_close(one[key], gradient, rtol=1e-4, atol=1e-6, msg=key)
    # Means of batches would be something else: their samples weigh unequally, or the last step counts half.
    assert any((plain[-1][key] - gradient).abs().max() > 1e-4 for key, gradient in expected[-1].items())


@pytest.mark.parametrize("name", ROWWISE)
def test_rows_in_turns_give_what_all_at_once_give(name, monkeypatch):
    found = []
    with distillation(name) as module:
        show_data(module, None)
        in_double(module)
        batch, student = rows(samples(), 3, 9, torch.float64), list(module.student.parameters())
        classes = module.student.info.classes
        for at_once in (6, 4, 1):
            monkeypatch.setattr(term_inputs, "CHUNK", at_once * classes)
            torch.manual_seed(5)
            losses = module.losses(batch, ROWWISE[name])
            gradients = torch.autograd.grad(sum(losses.values()), student, allow_unused=True)
            found.append([*losses.values(), *(g for g in gradients if g is not None)])
    assert any(value.any() for value in found[0][len(losses) :])
    for turns in found[1:]:
        for value, expected in zip(turns, found[0], strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


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
