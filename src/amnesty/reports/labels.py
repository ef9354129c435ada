"""Names beside points, placed so that they cover neither each other nor another point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top; in pixels
_DIRECTIONS = [(0.7, 0.7), (1, 0), (-1, 0), (0, 1), (0, -1), (0.75, -0.75), (-0.75, 0.75), (-0.75, -0.75)]
_DISTANCES = [9.0, 16.0, 26.0, 38.0, 52.0, 68.0]


def place(points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], room: Box) -> list[Box]:
    """A box of the given size (width, height) for every point, greedily: near it, inside `room`, overlapping least.

    >>> place([(50, 50)], [(20, 10)], (0, 0, 100, 100))
    [(56.3, 56.3, 76.3, 66.3)]
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    boxes: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        choices = [_box(point, size, direction, far) for far in _DISTANCES for direction in _DIRECTIONS]
        best = min(choices, key=lambda box: _cost(box, point, taken, room))
        boxes.append(best)
        taken.append(best)
    return boxes


def write_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], color: str) -> None:
    """Write the names beside the points (in data coordinates), with a thin line where a name had to move away."""
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
    frame = axes.get_window_extent()
    sizes = [_size(axes, name) for name in names]
    boxes = place(pixels, sizes, (frame.x0 + 2, frame.y0 + 2, frame.x1 + 4, frame.y1 + 8))
    to_data = axes.transData.inverted()
    for (x, y), (left, bottom, right, top), name in zip(pixels, boxes, names, strict=True):
        near = (min(max(x, left), right), min(max(y, bottom), top))
        if math.dist(near, (x, y)) > 12:
            (x0, y0), (x1, y1) = to_data.transform([(x, y), near])
            axes.plot([x0, x1], [y0, y1], color=color, linewidth=0.6, alpha=0.7, zorder=2)
        side = "left" if left >= x else "right" if right <= x else "center"
        anchor = {"left": left, "right": right, "center": (left + right) / 2}[side]
        at = to_data.transform((anchor, (bottom + top) / 2))
        axes.text(
            at[0],
            at[1],
            name,
            horizontalalignment=side,
            verticalalignment="center_baseline",
            fontsize=10,
            zorder=5,
        )


def _size(axes: Axes, name: str) -> tuple[float, float]:
    text = axes.text(0, 0, name, fontsize=10)
    extent = text.get_window_extent()
    text.remove()
    return float(extent.width), float(extent.height)


def _box(point: tuple[float, float], size: tuple[float, float], direction: tuple[float, float], far: float) -> Box:
    (x, y), (width, height), (dx, dy) = point, size, direction
    left = x + dx * far - (0 if dx > 0 else width if dx < 0 else width / 2)
    bottom = y + dy * far - (0 if dy > 0 else height if dy < 0 else height / 2)
    return (left, bottom, left + width, bottom + height)


def _cost(box: Box, point: tuple[float, float], taken: Sequence[Box], room: Box) -> float:
    covered = sum(_overlap(box, other) for other in taken)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, room)
    near = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
    return 20 * covered + 40 * outside + math.dist(point, near)


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
