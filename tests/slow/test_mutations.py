"""Slow: every slip in a loss is caught, and docs/mutations.md says by what."""

import pytest
from helpers import mutations


@pytest.mark.slow
def test_every_slip_is_caught_and_the_page_says_by_what():
    found = mutations.mutations()
    caught = [mutation.caught_by() for mutation in found]
    assert all(caught), [m for m, by in zip(found, caught, strict=True) if not by]
    assert mutations.PAGE.read_text() == mutations.page(found, caught)
