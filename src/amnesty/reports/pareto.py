"""The Pareto front of points in the plane."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats, both coordinates being better when lower.

    A point is beaten by one that is nowhere higher and somewhere lower; equal points do not beat each other.
    The indices are sorted by the first coordinate, then by the second, then by index. O(n log n).

    >>> pareto_front([(0.0, 3.0), (2.0, 2.0), (1.0, 1.0)])
    [0, 2]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        if not front or points[index][1] < points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front
