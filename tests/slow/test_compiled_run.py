"""Slow: a compiled run learns what a plain one does, and its checkpoint is a plain one."""

import pytest
import torch
from helpers.recipe_fits import fitted

from distillab.core.recipe import Recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kd", "hint"])  # with hooks and without
def test_a_compiled_run_learns_what_a_plain_one_does_and_its_checkpoint_is_a_plain_one(name, digits, tmp_path):
    plain, expected = fitted(digits, tmp_path / "plain", name)
    compiled, found = fitted(digits, tmp_path / "compiled", name, compile="both")
    for one, other in zip(expected.curves, found.curves, strict=True):
        for key in one:
            if key.startswith("train/"):
                assert one[key] == pytest.approx(other[key], rel=1e-3), key
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for key, value in plain.student.state_dict().items():
        torch.testing.assert_close(compiled.student.state_dict()[key], value, rtol=1e-2, atol=1e-3, msg=key)
    # A plain run goes on from the compiled one's state.
    longer = Recipe(epochs=3, optimizer="sgd", lr=0.05, schedule="constant")
    _, record = fitted(digits, tmp_path / "compiled", name, longer)
    assert record.resumed and record.epochs == 3
