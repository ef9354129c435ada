"""The drawings of a request's run: how sure the model is of what, how the players negotiated, and when it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amnesty.evaluation import Answers
from amnesty.evaluation.numbers import compared
from amnesty.reports.figures import draw_curve
from amnesty.reports.request_run import History
from amnesty.reports.svg import ACCENT, FORGET, INK, MUTED, RETAIN, TARGET, drawing, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
_WIDTH = 6.0  # inches of 72 units, as of every figure
_BINS = 36
_CURVES = (  # of the negotiation: ending of the keys in the history, title, what is on the axis
    ("_loss", "Losses: each player wants its own to fall", "Loss"),
    ("_weight", "Weights: how much of each gradient is taken", "Weight"),
    ("_norm", "Lengths of the gradients", "Length"),
)
_SINGLE = (("cosine", "Cosine of the two gradients", "Cosine"), ("length", "Length of the update", "Length"))


def margin_figure(
    answers: Mapping[str, Mapping[str, Answers]], titles: Mapping[str, str], seed: int, name: str
) -> str | None:
    """How sure each model is of forgotten and of unseen examples; None without such answers.

    Args:
        answers: model -> part -> its answers.
        titles: model -> what it is called; these models are drawn, one below the other.
        seed: of the run, so that the unseen examples are those that the membership test reads.
        name: a plain word, unique on the page.
    """
    pairs = {
        title: pair
        for model, title in titles.items()
        if "forget" in answers.get(model, {}) and (pair := compared(answers[model], seed)) is not None
    }
    if not pairs:
        return None
    from matplotlib.figure import Figure

    margins = np.concatenate([side.margin for pair in pairs.values() for side in pair])
    low, high = np.quantile(margins, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    with drawing():
        figure = Figure(figsize=(_WIDTH, 0.9 + 1.9 * len(pairs)))
        panels = figure.subplots(len(pairs), 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(0.04, 0.62 / (0.9 + 1.9 * len(pairs)), 0.98, 0.93, hspace=0.32)
        for axes, (title, pair) in zip(panels, pairs.items(), strict=True):
            for side, color, word in zip(pair, (FORGET, TARGET), ("to forget", "never seen"), strict=True):
                _draw_share(axes, side.margin, edges, color, f"{word} ({len(side)})")
            axes.set_title(title, color=INK, fontweight="bold")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        panels[0].legend(frameon=False, loc="upper left", labelcolor="linecolor", handlelength=1.2)
        panels[-1].set_xlabel("Log-odds of the label, in nats: further right is surer")
        words = [f"{title}: {_medians(*pair)}" for title, pair in pairs.items()]
        return to_svg(
            figure, name, "How sure the model is of forgotten and of unseen examples", f"{'. '.join(words)}."
        )


def _draw_share(axes: Axes, values: Floats, edges: Floats, color: str, label: str) -> None:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    share = counts / max(1, len(values))
    axes.stairs(share, edges, fill=True, color=color, alpha=0.16)
    axes.stairs(share, edges, color=color, linewidth=1.8, label=label)


def _medians(forget: Answers, unseen: Answers) -> str:
    return f"median {np.median(forget.margin):.2f} nats to forget, {np.median(unseen.margin):.2f} never seen"


def negotiation_figures(history: History, name: str) -> list[str]:
    """One figure for each thing that the history tells of the negotiation: losses, weights, cosine, lengths."""
    steps = history.trained
    at = history.step[steps]
    figures = []
    for ending, title, unit in _CURVES:
        curves = {p: history.columns[p + ending][steps] for p in history.players if p + ending in history.columns}
        figures.append(_curves_figure(history, at, curves, title, unit, f"{name}{ending.replace('_', '-')}"))
    for key, title, unit in _SINGLE:
        curves = {"": history.columns[key][steps]} if key in history.columns else {}
        figures.append(_curves_figure(history, at, curves, title, unit, f"{name}-{key}"))
    return [figure for figure in figures if figure is not None]


def _curves_figure(
    history: History, at: Floats, curves: Mapping[str, Floats], title: str, unit: str, name: str
) -> str | None:
    curves = {player: values for player, values in curves.items() if np.isfinite(values).any()}
    if not curves:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    with drawing():
        figure = Figure(figsize=(_WIDTH, 3.0))
        figure.subplots_adjust(0.13, 0.18, 0.98, 0.88)
        axes = figure.add_subplot()
        colors = player_colors(tuple(curves))
        for player, values in curves.items():
            draw_curve(axes, at, history.starts, values, colors[player])
            if player:
                axes.plot([], [], color=colors[player], linewidth=2, label=player)
        if unit == "Cosine":
            axes.set_ylim(-1.05, 1.05)
            axes.axhline(0, color=MUTED, linewidth=1)
        elif _spread(list(curves.values())) > 100:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")  # not as powers: their notation is that of formulas
            axes.yaxis.set_minor_formatter(NullFormatter())
        if any(curves):
            axes.legend(frameon=False, labelcolor="linecolor", ncols=min(4, len(curves)), handlelength=1.2)
        axes.set_title(title, color=INK, fontweight="bold")
        axes.set_ylabel(unit)
        axes.set_xlabel("Step")
        return to_svg(figure, name, title, f"{'. '.join(_ends(*curve) for curve in curves.items())}.")


def player_colors(players: Sequence[str]) -> dict[str, str]:
    """A colour for each player: that of retaining for those that retain, by their name."""
    forgetting = (FORGET, TARGET, MUTED)
    found = {player: RETAIN if "retain" in player else "" for player in players}
    left = [player for player, color in found.items() if not color]
    if left == [""]:
        return {"": ACCENT}
    return found | {player: forgetting[at % len(forgetting)] for at, player in enumerate(left)}


def _spread(curves: Sequence[Floats]) -> float:
    """The largest over the smallest value, where all are positive."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    return float(values.max() / values.min()) if (values > 0).all() else 0.0


def _ends(player: str, values: Floats) -> str:
    finite = values[np.isfinite(values)]
    who = f"{player}: from" if player else "From"
    return f"{who} {finite[0]:.3g} at the first step to {finite[-1]:.3g} at the last"


def round_figure(rounds: Sequence[float], distances: Sequence[float], name: str) -> str:
    """The distance that the stopping rule watches, over its rounds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    title = "Distance between forgotten and unseen, by round"
    with drawing():
        figure = Figure(figsize=(_WIDTH, 3.0))
        figure.subplots_adjust(0.13, 0.18, 0.98, 0.88)
        axes = figure.add_subplot()
        axes.plot(rounds, distances, color=ACCENT, marker="o", markersize=5, linewidth=1.6)
        axes.set_ylim(min(0.0, *distances), 1.1 * max(*distances, 1e-9))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, color=INK, fontweight="bold")
        axes.set_ylabel("Distance")
        axes.set_xlabel("Round")
        return to_svg(figure, name, title, _ends("", np.array(distances)).replace("step", "round"))
