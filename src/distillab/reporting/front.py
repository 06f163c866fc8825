"""The front: the models that no other one beats in both cost and accuracy."""

from __future__ import annotations


def non_dominated(points: list[tuple[float, float]]) -> list[bool]:
    """Which points lie on the front: no other point costs at most as much, is at least as accurate, and differs.

    Args:
        points: cost (lower is better) and accuracy (higher is better); equal points share their answer.

    Returns:
        One truth value for each point, in the order given.
    """
    return [
        not any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)
        for point in points
    ]
