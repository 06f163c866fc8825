"""Slips in the losses are found where they are said to be, and caught."""

import dataclasses

import pytest
from helpers import mutations

FOUND = mutations.mutations()


def test_every_slip_has_its_place_and_every_function_enough():
    assert not mutations.misplaced(FOUND)


def test_what_changes_nothing_survives_and_is_said():
    idle = dataclasses.replace(FOUND[0], new=FOUND[0].old)
    assert idle.caught_by() == []
    assert "**nothing**" in mutations.page([idle], [[]])
    astray = dataclasses.replace(FOUND[0], old="no such text")
    assert any("no such text" in line for line in mutations.misplaced([astray]))


@pytest.mark.slow
def test_every_slip_is_caught_and_the_page_says_by_what():
    caught = [mutation.caught_by() for mutation in FOUND]
    assert all(caught), [m for m, by in zip(FOUND, caught, strict=True) if not by]
    assert mutations.PAGE.read_text() == mutations.page(FOUND, caught)
