"""The tool that writes slips into the losses: what changes nothing is said to survive, and what has no place too."""

import dataclasses

import pytest

from distillab import functional
from helpers import mutations


@pytest.fixture
def found():
    return mutations.mutations()


def test_every_slip_has_its_place_and_every_function_enough(found):
    assert not mutations.misplaced(found, functional.__all__)


def test_what_changes_nothing_survives_and_is_said(found):
    idle = dataclasses.replace(found[0], new=found[0].old)
    assert idle.caught_by() == []
    assert "**nothing**" in mutations.page([idle], [[]])
    astray = dataclasses.replace(found[0], old="no such text")
    assert any("no such text" in line for line in mutations.misplaced([astray], functional.__all__))
