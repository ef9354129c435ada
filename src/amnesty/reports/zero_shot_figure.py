"""The drawing of which class became which: a matrix of classes, before against after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amnesty.reports.svg import FORGET, INK, MUTED, RETAIN, RULE, drawing, to_svg
from amnesty.reports.words import MINUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 20  # characters of a class name
_SIZES = ((6, 44.0, 11.0, 11.0), (12, 36.0, 10.5, 10.0), (20, 25.0, 9.5, 8.0), (10**6, 17.0, 8.5, 6.2))
"""Up to so many classes: units of a cell, of the names' letters and of the numbers'."""

_FAINT, _FULL = 0.08, 0.62  # opacity of the smallest and of the largest change: text must stay readable on it


@dataclass(frozen=True, eq=False)
class Changes:
    """Shares of the images of each class (rows) that a model calls each class (columns), shape [K, K].

    A row is NaN where there is no image of the class.
    """

    names: tuple[str, ...]
    forgotten: tuple[bool, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def points(self) -> NDArray[np.float64]:
        """After minus before, in percentage points."""
        return 100 * (self.after - self.before)


def changes_figure(changes: Changes, name: str) -> tuple[str, int]:
    """The matrix as SVG, and its width in pixels, at which all of it can be read. ``name`` is a plain word."""
    from matplotlib.figure import Figure

    count = len(changes.names)
    _, cell, letters, digits = next(size for size in _SIZES if count <= size[0])
    names = [text if len(text) <= _LONGEST else f"{text[:11]}…{text[-8:]}" for text in changes.names]
    room = 0.66 * letters * max(map(len, names)) + 12
    left, top = max(room, 40.0) + 20, room + 24
    width, height = left + cell * count + 8, top + cell * count + 8
    with drawing():
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((left / width, 8 / height, cell * count / width, cell * count / height))
        axes.set(xlim=(0, count), ylim=(count, 0))
        _draw_cells(axes, changes, digits)
        _write_names(axes, changes, names, letters)
        axes.set_xlabel("called", fontsize=letters, labelpad=6)
        axes.set_ylabel("images of", fontsize=letters, labelpad=6)
        axes.xaxis.set_label_position("top")
        svg = to_svg(figure, name, "What the images of each class are called: after minus before", _words(changes))
    return svg, round(width)


def _draw_cells(axes: Axes, changes: Changes, digits: float) -> None:
    from matplotlib.patches import Rectangle

    points, count = changes.points, len(changes.names)
    least = 1.0 if count <= 20 else 3.0  # a change that is written as a number
    largest = max(10.0, float(np.nanmax(np.abs(points))) if np.isfinite(points).any() else 0.0)
    for row in range(count):
        if np.isnan(points[row]).any():
            axes.add_patch(Rectangle((0, row), count, 1, facecolor="none", edgecolor=RULE, hatch="///", linewidth=0))
            continue
        for column in np.flatnonzero(np.abs(points[row]) >= 0.05).tolist():
            change = float(points[row, column])
            opacity = _FAINT + (_FULL - _FAINT) * abs(change) / largest
            color = RETAIN if change > 0 else FORGET
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, alpha=opacity, linewidth=0))
            if abs(change) >= least:
                text = f"{abs(change):.0f}" if change > 0 else f"{MINUS}{abs(change):.0f}"
                axes.text(column + 0.5, row + 0.52, text, fontsize=digits, color=INK, ha="center", va="center")
    for line in range(count + 1):
        axes.axhline(line, color=RULE, linewidth=0.5, zorder=0)
        axes.axvline(line, color=RULE, linewidth=0.5, zorder=0)
    for at in range(count):
        axes.add_patch(Rectangle((at, at), 1, 1, facecolor="none", edgecolor=MUTED, linewidth=1.2, zorder=3))


def _write_names(axes: Axes, changes: Changes, names: list[str], letters: float) -> None:
    at = np.arange(len(names)) + 0.5
    axes.set_xticks(at, names, rotation=90, fontsize=letters)
    axes.set_yticks(at, names, fontsize=letters)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, forgotten in zip(labels, changes.forgotten, strict=True):
            if forgotten:
                label.set(color=FORGET, fontweight="bold")


def _words(changes: Changes) -> str:
    """The largest changes, for those who cannot see the drawing."""
    points = np.nan_to_num(changes.points)
    order = np.argsort(-np.abs(points), axis=None, kind="stable")[:6]
    told = []
    for row, column in zip(*np.unravel_index(order, points.shape), strict=True):
        if abs(points[row, column]) >= 0.05:
            told.append(f"{changes.names[row]} called {changes.names[column]}: {points[row, column]:+.1f} points")
    return f"Largest changes: {'; '.join(told)}." if told else "Nothing changed."
