"""What the tests of the pages share."""

import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without the pictures beside them, which take most of the time."""
    from distillab.reporting import plots

    monkeypatch.setattr(plots, "accuracy_plot", lambda *rows, **options: [])
