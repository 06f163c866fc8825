"""What an error of another library says, in one line."""

import pytest

from distillab.core.errors import reason


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("a\n  b"), "a b"),
        (ValueError("Validation error for field 'size':\n    TypeError: not a number"), None),
        (ValueError("No weights. In PyTorch 2.6 we changed what you may do. Try it."), "No weights"),
        (ValueError("file v1.Beta of 2.6 is damaged..."), "file v1.Beta of 2.6 is damaged"),
        (ValueError("x" * 500), "x" * 200 + "…"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_reason_is_the_first_sentence(error, said):
    assert reason(error) == (said or "Validation error for field 'size': TypeError: not a number")
