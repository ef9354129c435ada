"""The drawings of a scenario: who forgot and kept how much, and how the two players of a run got on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amnesty.reports.labels import write_labels
from amnesty.reports.measures import plain
from amnesty.reports.pareto import pareto_front
from amnesty.reports.scenario import ORIGINAL, Scenario, Step
from amnesty.reports.svg import ACCENT, CARD, FORGET, INK, MUTED, RETAIN, RULE, TARGET, drawing, to_svg
from amnesty.reports.words import method_name, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
_WIDTH, _HEIGHT = 6.0, 4.8  # inches of 72 units; small, so that the text can be read on a phone
_TICKS = [0, 0.5, 1, 2, 5, 10, 20, 50, 100]
_POINTS = 500  # drawn per curve at most


@dataclass(frozen=True)
class Trade:
    """Where the methods of a scenario stand between forgetting and keeping.

    With a reference, coordinates are distances to it in points, both better when lower; without one, they are
    accuracies in percent and there is no front.
    """

    kept_measure: str
    names: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    front: tuple[str, ...]  # the unlearning methods that no other one beats
    compared: bool


def trade(scenario: Scenario) -> Trade | None:
    """The trade-off between forget accuracy and holdout (or else retain) accuracy; None without the numbers."""
    scores = scenario.scores
    compared = scores.reference is not None
    for kept in ("holdout_accuracy", "retain_accuracy"):
        points: dict[str, tuple[float, float]] = {}
        for name in scores.rows:
            x, y = (
                (scores.gap(name, key) if compared else scores.value(name, key)) for key in ("forget_accuracy", kept)
            )
            if x is not None and y is not None:
                points[name] = (100 * abs(x), 100 * abs(y))
        contenders = [name for name in points if name in scores.unlearned]
        if contenders:
            best = pareto_front([points[name] for name in contenders]) if compared else []
            front = tuple(contenders[index] for index in best)
            return Trade(kept, tuple(points), tuple(points.values()), front, compared)
    return None


def trade_figure(scenario: Scenario, name: str) -> str | None:
    """The forget-retain scatter as SVG, with the Pareto front and the reference as the target."""
    shown = trade(scenario)
    if shown is None:
        return None
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        figure.subplots_adjust(0.14, 0.14, 0.98, 0.98)
        axes = figure.add_subplot()
        if shown.compared:
            _scale_by_distance(axes, shown)
        else:
            axes.set(xlim=(-3, 103), ylim=(-3, 103))
        axes.grid(True)
        ending = "points from the retrained model" if shown.compared else "percent"
        axes.set_xlabel(f"{_capital(plain('forget_accuracy', scenario))}:\n{ending}")
        axes.set_ylabel(f"{_capital(plain(shown.kept_measure, scenario))}:\n{ending}")
        _draw_front(axes, shown)
        for method, (x, y) in zip(shown.names, shown.points, strict=True):
            _draw_point(axes, scenario, shown, method, x, y)
        write_labels(axes, shown.points, [method_name(method) for method in shown.names], MUTED)
        return to_svg(figure, name, "Forgetting against keeping", describe_trade(shown))


def describe_trade(shown: Trade) -> str:
    """The scatter in words."""
    unit = "points from the retrained model" if shown.compared else "percent"
    each = [
        f"{method_name(method)}: {x:.2f} in forgetting, {y:.2f} in keeping"
        for method, (x, y) in zip(shown.names, shown.points, strict=True)
    ]
    return f"One mark a method, in {unit}. {'; '.join(each)}."


def _scale_by_distance(axes: Axes, shown: Trade) -> None:
    for axis, values in (
        (axes.xaxis, [x for x, _ in shown.points]),
        (axes.yaxis, [y for _, y in shown.points]),
    ):
        upper = min(130.0, 1.6 * max(1.0, *values))
        scale, limit = (axes.set_xscale, axes.set_xlim) if axis is axes.xaxis else (axes.set_yscale, axes.set_ylim)
        scale("symlog", linthresh=1, linscale=1)
        limit(-0.12, upper)
        ticks = [tick for tick in _TICKS if tick <= upper]
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.axhline(0, color=TARGET, linewidth=1.2, alpha=0.8, zorder=1)
    axes.axvline(0, color=TARGET, linewidth=1.2, alpha=0.8, zorder=1)


def _draw_front(axes: Axes, shown: Trade) -> None:
    corners = [point for method, point in zip(shown.names, shown.points, strict=True) if method in shown.front]
    if not corners:
        return
    corners = sorted(set(corners))
    limits = axes.get_xlim(), axes.get_ylim()
    xs, ys = [corners[0][0], *(x for x, _ in corners)], [limits[1][1], *(y for _, y in corners)]
    axes.step([*xs, limits[0][1]], [*ys, ys[-1]], where="post", color=ACCENT, linewidth=1.6, alpha=0.55, zorder=2)
    axes.set(xlim=limits[0], ylim=limits[1])


def _draw_point(axes: Axes, scenario: Scenario, shown: Trade, method: str, x: float, y: float) -> None:
    if method == scenario.scores.reference:
        style = {"marker": "*", "markersize": 17, "color": TARGET}
    elif method == ORIGINAL:
        style = {"marker": "s", "markersize": 8.5, "markerfacecolor": CARD, "markeredgecolor": INK}
    elif method in shown.front:
        style = {"marker": "o", "markersize": 9.5, "color": ACCENT, "markeredgecolor": CARD}
    else:
        style = {"marker": "o", "markersize": 8.5, "markerfacecolor": CARD, "markeredgecolor": MUTED}
    axes.plot([x], [y], linestyle="none", clip_on=False, zorder=4, **style)  # type: ignore[arg-type]


def loss_figure(steps: Sequence[Step], name: str, method: str) -> str | None:
    """The two players' losses over the steps, each with a running mean; None when none was recorded."""
    forget = _column([step.forget_loss for step in steps])
    retain = _column([step.retain_loss for step in steps])
    curves = [
        (title, values, color)
        for title, values, color in (
            ("Forgetting player", forget, FORGET),
            ("Retaining player", retain, RETAIN),
        )
        if np.isfinite(values).any()
    ]
    if not curves:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with drawing():
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        figure.subplots_adjust(0.13, 0.11, 0.98, 0.94, hspace=0.34)
        for row, (title, values, color) in enumerate(curves, start=1):
            axes = figure.add_subplot(len(curves), 1, row)
            draw_curve(axes, *_timeline(steps), values, color)
            axes.set_title(title, color=color, fontweight="bold")
            axes.set_ylabel("Loss")
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter("{x:.6g}")
        axes.set_xlabel("Step")
        words = [f"{title}: from {_ends(values)}" for title, values, _ in curves]
        return to_svg(figure, name, f"Losses of the two players of {method}", f"{'. '.join(words)}.")


def cosine_figure(steps: Sequence[Step], name: str, method: str) -> str | None:
    """The cosine of the two players' gradients over the steps; None when none was recorded."""
    cosine = _column([step.cosine for step in steps])
    if not np.isfinite(cosine).any():
        return None
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        figure.subplots_adjust(0.1, 0.11, 0.98, 0.94)
        axes = figure.add_subplot()
        axes.set_ylim(-1.05, 1.05)
        axes.axhspan(-1.05, 0, color=FORGET, alpha=0.07, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=1)
        draw_curve(axes, *_timeline(steps), cosine, ACCENT)
        axes.set_yticks([-1, -0.5, 0, 0.5, 1], ["\N{MINUS SIGN}1", "\N{MINUS SIGN}0.5", "0", "0.5", "1"])
        for y, text in ((0.99, "the players agree"), (-0.99, "the players pull against each other")):
            alignment = "top" if y > 0 else "bottom"
            axes.text(
                0.985, (y + 1.05) / 2.1, text, transform=axes.transAxes, color=MUTED, fontsize=10,
                horizontalalignment="right", verticalalignment=alignment,
            )  # fmt: skip
        axes.set_title("Cosine of the two gradients", color=ACCENT, fontweight="bold")
        axes.set_xlabel("Step")
        negative = float(np.mean(cosine[np.isfinite(cosine)] < 0))
        description = f"From {_ends(cosine)}. Negative, that is in conflict, in {percent(negative)} of steps."
        return to_svg(figure, name, f"Cosine of the gradients of the two players of {method}", description)


def _timeline(steps: Sequence[Step]) -> tuple[Floats, list[float]]:
    at = np.array([step.step for step in steps], dtype=np.float64)
    return at, [float(b.step) for a, b in itertools.pairwise(steps) if a.epoch != b.epoch]


def draw_curve(axes: Axes, at: Floats, starts: Sequence[float], values: Floats, color: str) -> None:
    """Draw values over the steps ``at``: thin as they are, thick as a running mean. A line where an epoch starts."""
    for start in starts if len(starts) <= 60 else ():
        axes.axvline(start - 0.5, color=RULE, linewidth=0.6, zorder=0)
    smooth = running_mean(values, max(1, len(values) // 25))
    size = -(-len(values) // _POINTS)  # points joined into one, so that long runs stay light
    axes.plot(bins(at, size), bins(values, size), color=color, linewidth=0.8, alpha=0.4)
    axes.plot(bins(at, size), bins(smooth, size), color=color, linewidth=2)
    if not np.isfinite(smooth[1:] + smooth[:-1]).any():  # single steps between gaps: a line would be invisible
        axes.plot(at, values, color=color, marker="o", markersize=4, linestyle="none")
    axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)
    axes.margins(y=0.08)


def running_mean(values: Floats, width: int) -> Floats:
    """The mean of the finite numbers within `width` // 2 steps on either side; NaN where the value itself is NaN.

    >>> running_mean(np.array([0.0, 3.0, 6.0, np.nan]), 3).tolist()
    [1.5, 3.0, 4.5, nan]
    """
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    low, high = np.maximum(index - width // 2, 0), np.minimum(index + width // 2 + 1, len(values))
    mean = (total[high] - total[low]) / np.maximum(count[high] - count[low], 1)
    return np.where(finite, mean, np.nan)


def bins(values: Floats, size: int) -> Floats:
    """Means of `size` neighbours each, ignoring NaN; NaN where all are.

    >>> bins(np.array([1.0, 3.0, np.nan, np.nan, 5.0]), 2).tolist()
    [2.0, nan, 5.0]
    """
    padded = np.concatenate([values, np.full(-len(values) % size, np.nan)]).reshape(-1, size)
    finite = np.isfinite(padded)
    total = np.where(finite, padded, 0.0).sum(1)
    return np.where(finite.any(1), total / np.maximum(finite.sum(1), 1), np.nan)


def _column(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _ends(values: Floats) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite[0]:.3g} at the first step to {finite[-1]:.3g} at the last"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
