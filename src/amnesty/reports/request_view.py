"""A request's run as its page shows it: every text and figure ready, so that the template only lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from amnesty.evaluation import Finding
from amnesty.evaluation.measure import Measure
from amnesty.reports.drawn_view import DrawnView, drawn_view
from amnesty.reports.drawn_words import judged_counts, question_of
from amnesty.reports.measures import plain
from amnesty.reports.request_figures import margin_figure, negotiation_figures, round_figure
from amnesty.reports.request_limits import limits
from amnesty.reports.request_run import Facts, Flat, History, Rechecked, RequestRun, hashes_of_files
from amnesty.reports.request_summary import environment, summary
from amnesty.reports.request_words import (
    beside_note,
    done,
    duplicates_note,
    earlier_note,
    headline,
    interval,
    sentences,
    verify_note,
)
from amnesty.reports.scenario import ORIGINAL, Scores
from amnesty.reports.tables import columns, other_measures
from amnesty.reports.view import KINDS, Curve, FindingView
from amnesty.reports.words import DASH, MINUS, SPACE, duration, method_name, number, percent, thousands
from amnesty.reports.zero_shot_view import ZeroShotView, zero_shot_view

_ROUNDS = 24  # listed at most; the figure shows all of them
_PLAYERS = ("_loss", "_weight", "_norm")
_NUDITY = "exposed_share_at_60_percent"  # where it was looked for, readers choose whether to see


@dataclass(frozen=True)
class Number:
    """One model's number, and its 95 % interval in small."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """One measure: its key, title and meaning, and a number for each model."""

    key: str
    title: str
    plain: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Came:
    """Whether what an earlier request had forgotten came back; kind is "good", "bad" or empty."""

    name: str
    answer: str
    kind: str
    reason: str


@dataclass(frozen=True)
class RequestView:
    """All that the template needs of a run."""

    facts: Facts
    headline: str
    sentences: tuple[str, ...]
    findings: tuple[FindingView, ...]
    done: str
    summary: Flat
    models: tuple[str, ...]
    lines: tuple[Line, ...]
    others: Grid
    margins: Curve | None
    zero_shot: ZeroShotView | None
    drawn: DrawnView | None
    judged: str
    curves: tuple[Markup, ...]
    rounds: Grid | None
    rounds_svg: Markup
    duplicates_note: str
    duplicates: Grid | None
    chain: Grid | None
    came: tuple[Came, ...]
    environment: Flat
    files: tuple[tuple[str, str, str], ...]
    request: str
    limits: tuple[str, ...]
    beside_note: str
    earlier_note: str
    verify_note: str


def request_view(run: RequestRun) -> RequestView:
    """Everything on the page of a run."""
    scores, facts = run.scores, run.facts
    rounds = _rounds(run.history)
    found = () if run.method is None else scores.findings(run.method)
    return RequestView(
        facts=facts,
        headline=headline(run),
        sentences=sentences(run),
        findings=tuple(_finding(run, finding) for finding in found),
        done=done(run),
        summary=summary(run),
        models=tuple(method_name(name) for name in _models(scores)),
        lines=tuple(_line(run, measure) for measure in columns(scores)),
        others=_others(scores),
        margins=_margins(run),
        zero_shot=None if run.zero_shot is None else zero_shot_view(run.zero_shot),
        drawn=None if run.drawn is None else drawn_view(run.drawn, veiled=scores.has(_NUDITY)),
        judged=judged_counts(scores, run.method),
        curves=tuple(Markup(svg) for svg in negotiation_figures(run.history, "negotiation")),
        rounds=None if rounds is None else _shortened(rounds),
        rounds_svg=_rounds_svg(run.history),
        duplicates_note=duplicates_note(run),
        duplicates=_duplicates(facts),
        chain=_chain(facts),
        came=tuple(_came(entry) for entry in facts.rechecked),
        environment=environment(run),
        files=tuple((name, size_of(size), digest) for name, size, digest in hashes_of_files(run.folder)),
        request=run.request,
        limits=limits(run),
        beside_note=beside_note(run),
        earlier_note=earlier_note(run),
        verify_note=verify_note(run),
    )


def _finding(run: RequestRun, found: Finding) -> FindingView:
    question = question_of(found.question) if run.generator else found.question
    return FindingView(question, found.answer, KINDS.get(found.answer, "bad"), found.reason)


def _models(scores: Scores) -> list[str]:
    """Before, after, and the reference: the order in which people compare."""
    sides = [name for name in (scores.reference, scores.floor) if name is not None]
    return [*([ORIGINAL] if ORIGINAL in scores.methods else []), *scores.unlearned, *sides]


def _line(run: RequestRun, measure: Measure) -> Line:
    numbers = tuple(number_of(run.scores, name, measure) for name in _models(run.scores))
    return Line(measure.key, measure.title, plain(measure.key, run.scenario), numbers)


def _others(scores: Scores) -> Grid:
    models = _models(scores)
    at = [scores.rows.index(name) for name in models]
    rows = ((title, *(texts[i] for i in at)) for title, texts in other_measures(scores))
    return Grid(("Measure, as recorded", *(method_name(name) for name in models)), tuple(rows))


def number_of(scores: Scores, method: str, measure: Measure) -> Number:
    """A model's number as text, with its interval where it is known."""
    value = scores.value(method, measure.key)
    if measure.key == "seconds":
        return Number(duration(value))
    if measure.key == "average_gap":
        return Number(DASH if value is None else f"{number(value)} points")
    ends = interval(scores, method, measure.key)
    return Number(percent(value), "" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]")


def _margins(run: RequestRun) -> Curve | None:
    titles = {name: _WHEN.get(name, method_name(name)) for name in _models(run.scores) if name != run.scores.floor}
    titles |= {run.method: f"After {method_name(run.method)}"} if run.method is not None else {}
    svg = margin_figure(run.answers, titles, run.scores.seed or 0, "margins")
    return None if svg is None else Curve(Markup(svg), _MARGINS)


_WHEN = {ORIGINAL: "Before"}
_MARGINS = (
    "How sure each model is of the label of an example, for those to forget and for unseen ones of the same classes "
    "in the same shares. Where the two look alike, answers do not give away which examples were trained on. Values "
    "beyond the drawing are counted in its last bars."
)


def _rounds(history: History) -> Grid | None:
    """What the history says of the rounds of the stopping rule: the last line of each."""
    if "round" not in history.columns:
        return None
    at, trained = history.columns["round"], history.trained
    told = np.isfinite(at) & (~trained | np.isfinite(history.columns.get("distance", np.full(len(at), np.nan))))
    last = {int(at[index]): index for index in np.flatnonzero(told).tolist()}
    left_out = {"round", "epoch", "lr", "cosine", "length", "stationary"}
    keys = [k for k in history.columns if k not in left_out and not k.endswith(_PLAYERS)]
    keys = [key for key in keys if any(np.isfinite(history.columns[key][index]) for index in last.values())]
    if not last:
        return None
    rows = (
        (str(number), f"{history.step[i]:.0f}", *(_cell(history.columns[key][i]) for key in keys))
        for number, i in last.items()
    )
    return Grid(("Round", "After step", *(key.replace("_", " ").capitalize() for key in keys)), tuple(rows))


def _cell(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS) if np.isfinite(value) else DASH


def _shortened(grid: Grid) -> Grid:
    if len(grid.rows) <= _ROUNDS:
        return grid
    gap = ("…",) * len(grid.heads)
    return Grid(grid.heads, (*grid.rows[: _ROUNDS // 2], gap, *grid.rows[-_ROUNDS // 2 :]))


def _rounds_svg(history: History) -> Markup:
    if not {"round", "distance"} <= history.columns.keys():
        return Markup()
    number, distance = history.columns["round"], history.columns["distance"]
    known = np.isfinite(number) & np.isfinite(distance)
    if known.sum() < 2:
        return Markup()
    return Markup(round_figure(number[known].tolist(), distance[known].tolist(), "rounds"))


def _duplicates(facts: Facts) -> Grid | None:
    kinds = list(dict.fromkeys(kind for counts in facts.duplicates.values() for kind in counts))
    if not kinds:
        return None
    rows = (
        (part, *(thousands(c[kind]) if kind in c else DASH for kind in kinds)) for part, c in facts.duplicates.items()
    )
    return Grid(("Part of the data", *(kind.replace("_", " ").capitalize() for kind in kinds)), tuple(rows))


def _chain(facts: Facts) -> Grid | None:
    heads = list(dict.fromkeys(key for entry in facts.chain for key, _ in entry))
    if not heads:
        return None
    rows = (tuple(dict(entry).get(head) or DASH for head in heads) for entry in facts.chain)
    return Grid(tuple(head.replace("_", " ").replace(".", " ").capitalize() for head in heads), tuple(rows))


def _came(entry: Rechecked) -> Came:
    kind = {"not detected": "good", "came back": "bad"}.get(entry.answer, "")
    return Came(entry.name, entry.answer, kind, entry.reason)


def size_of(size: int) -> str:
    """A file's size.

    >>> [size_of(n).replace(SPACE, " ") for n in (12, 2500, 3_000_000)]
    ['12 B', '2.5 kB', '3.0 MB']
    """
    units: Sequence[tuple[float, str]] = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    found = next(((size / scale, unit) for scale, unit in units if size >= scale), None)
    return f"{size}{SPACE}B" if found is None else f"{found[0]:.1f}{SPACE}{found[1]}"
