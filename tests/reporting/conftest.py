"""What the tests of the pages share."""

import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without the pictures beside them, which take most of the time."""
    from distillab.reporting import plots

    for name in ("accuracy_plot", "gains_plot"):
        monkeypatch.setattr(plots, name, lambda *rows, **options: [])
