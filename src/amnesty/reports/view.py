"""A scenario as the page shows it: every text and figure ready, so that the template only lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from amnesty.reports.figures import Trade, cosine_figure, loss_figure, trade, trade_figure
from amnesty.reports.images import png_uri
from amnesty.reports.measures import plain, shown
from amnesty.reports.scenario import ORIGINAL, Example, Prediction, Scenario, Scores, Step
from amnesty.reports.tables import Row, other_measures, rows
from amnesty.reports.verdict import Verdict, verdict
from amnesty.reports.words import DASH, duration, method_name, percent

MOST_EXAMPLES = 24
_TILES = ("forget_accuracy", "retain_accuracy", "holdout_accuracy", "membership_auc", "seconds")


@dataclass(frozen=True)
class Bar:
    """One bar of a tile; width in percent of the track."""

    role: str
    name: str
    text: str
    width: float


@dataclass(frozen=True)
class Tile:
    """One measure before, after, and of the reference."""

    title: str
    bars: tuple[Bar, ...]
    coin: bool  # marks the middle, where a coin toss would be


@dataclass(frozen=True)
class Column:
    """A column's head."""

    key: str
    title: str
    plain: str


@dataclass(frozen=True)
class Curve:
    """A figure of the run and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Answer:
    """What one model says."""

    who: str
    label: str
    confidence: str


@dataclass(frozen=True)
class Chip:
    """A remark on an example; kind is "good", "bad" or empty."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class ExampleView:
    """One forgotten image with its answers."""

    uri: str
    small: bool  # few pixels, to be shown as squares
    alt: str
    taught: str
    answers: tuple[Answer, ...]
    chip: Chip | None


@dataclass(frozen=True)
class FindingView:
    """One answer; kind is "good", "bad" or empty, as of a chip."""

    question: str
    answer: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Said:
    """What can be said of a method."""

    name: str
    findings: tuple[FindingView, ...]


@dataclass(frozen=True)
class View:
    """All that the template needs of a scenario."""

    anchor: str
    scores: Scores
    verdict: Verdict
    method: str
    wrong_labels: bool
    tiles: tuple[Tile, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    said: tuple[Said, ...]
    trade: Trade | None
    trade_svg: Markup
    curves: tuple[Curve, ...]
    examples: tuple[ExampleView, ...]
    examples_note: str
    others: tuple[tuple[str, list[str]], ...]
    notes: tuple[str, ...]


def view(scenario: Scenario, anchor: str) -> View:
    """Everything on the page about a scenario. `anchor` is a plain word, unique on the page."""
    scores = scenario.scores
    examples = tuple(_example(example) for example in scenario.examples[:MOST_EXAMPLES])
    return View(
        anchor=anchor,
        scores=scores,
        verdict=verdict(scenario),
        method=method_name(scenario.featured or "unlearning"),
        wrong_labels=scenario.wrong_labels,
        tiles=_tiles(scenario),
        columns=tuple(Column(each.key, each.title, plain(each.key, scenario)) for each in shown(scenario)),
        rows=tuple(rows(scores)),
        said=_said(scores),
        trade=trade(scenario),
        trade_svg=Markup(trade_figure(scenario, f"{anchor}-trade") or ""),
        curves=_curves(scenario, anchor),
        examples=examples,
        examples_note=_examples_note(scenario, examples),
        others=tuple(other_measures(scores)),
        notes=_notes(scenario),
    )


def _tiles(scenario: Scenario) -> tuple[Tile, ...]:
    scores, method = scenario.scores, scenario.featured
    models = [("before", "Before", ORIGINAL), ("after", method_name(method or ""), method)]
    models.append(("target", "Retrained", scores.reference))
    tiles = []
    for key in _TILES:
        if scores.value(method, key) is None:
            continue
        timed = key == "seconds"
        present = [entry for entry in models if entry[2] in scores.methods and not (timed and entry[0] == "before")]
        values = [scores.value(name, key) for _, _, name in present]
        whole = max(value for value in values if value is not None) if timed else 1.0
        bars = tuple(
            Bar(role, who, duration(value) if timed else percent(value), 100 * (value or 0.0) / (whole or 1.0))
            for (role, who, _), value in zip(present, values, strict=True)
        )
        title = "time to unlearn, or to retrain" if timed else plain(key, scenario)
        tiles.append(Tile(title[:1].upper() + title[1:], bars, coin=key == "membership_auc"))
    return tuple(tiles)


KINDS = {"kept": "good", "not detected": "good", "inconclusive": ""}


def _said(scores: Scores) -> tuple[Said, ...]:
    found = ((method, scores.findings(method)) for method in scores.unlearned)
    return tuple(
        Said(
            method_name(method),
            tuple(FindingView(f.question, f.answer, KINDS.get(f.answer, "bad"), f.reason) for f in answers),
        )
        for method, answers in found
        if answers
    )


def _curves(scenario: Scenario, anchor: str) -> tuple[Curve, ...]:
    if not scenario.history:
        return ()
    method = method_name(scenario.featured or "the run")
    svgs = (
        (loss_figure(scenario.history, f"{anchor}-losses", method), _LOSS_CAPTION),
        (cosine_figure(scenario.history, f"{anchor}-cosine", method), _cosine_caption(scenario.history)),
    )
    return tuple(Curve(Markup(svg), caption) for svg, caption in svgs if svg is not None)


_LOSS_CAPTION = (
    "Each player wants its own curve to go down. A low curve above means that the model no longer gives the "
    "forgotten answers; a low curve below, that it still gives the right ones to what is kept. Thin: as recorded. "
    "Thick: running mean. Vertical lines: epochs. The two scales differ."
)


def _cosine_caption(steps: Sequence[Step]) -> str:
    known = [step.cosine for step in steps if step.cosine is not None]
    conflict = sum(cosine < 0 for cosine in known) / max(1, len(known))
    stuck = sum(step.stationary for step in steps)
    ending = (
        f"In {stuck} of {len(steps)} steps no deal was possible."
        if stuck
        else "A deal that helps both was found in every step."
    )
    return (
        "How far the two players want the same: 1 is the same direction, 0 is unrelated, below 0 (shaded) what helps "
        f"one harms the other. They were in conflict in {percent(conflict)} of the steps. {ending}"
    )


def _example(example: Example) -> ExampleView:
    told = (("Before", example.before), ("After", example.after), ("Retrained", example.reference))
    answers = tuple(_answer(who, prediction) for who, prediction in told if prediction is not None)
    if example.label == example.true_label:
        taught = f"Label: {example.label}"
    else:
        taught = f"Labelled {example.label}, truly {example.true_label}"
    said = "; ".join(f"{answer.who}: {answer.label}" for answer in answers)
    return ExampleView(
        uri=png_uri(example.image),
        small=max(example.image.shape[:2]) <= 48,
        alt=f"A forgotten image. {taught}. {said}",
        taught=taught,
        answers=answers,
        chip=_chip(example),
    )


def _answer(who: str, prediction: Prediction) -> Answer:
    sure = "" if prediction.confidence is None else percent(min(prediction.confidence, 1.0))
    return Answer(who, prediction.label or DASH, sure)


def _chip(example: Example) -> Chip | None:
    if example.after is None:
        return None
    if example.label != example.true_label:
        remarks = {example.true_label: Chip("corrected", "good"), example.label: Chip("still wrong", "bad")}
        return remarks.get(example.after.label, Chip("another answer"))
    if example.reference is None:
        return None
    return (
        Chip("as retrained", "good") if example.after.label == example.reference.label else Chip("not as retrained")
    )


def _examples_note(scenario: Scenario, shown_examples: Sequence[ExampleView]) -> str:
    count = len(shown_examples)
    said = [example.chip.text for example in shown_examples if example.chip is not None]
    first = "The percentages say how sure each model is of its answer."
    if scenario.wrong_labels:
        right, wrong = said.count("corrected"), said.count("still wrong")
        return f"Of the {count} shown, {right} now get their true label and {wrong} keep the wrong one. {first}"
    if any(example.reference is not None for example in scenario.examples):
        same = said.count("as retrained")
        return f"Of the {count} shown, {same} now get the same answer as from the retrained model. {first}"
    return first


def _notes(scenario: Scenario) -> tuple[str, ...]:
    scores = scenario.scores
    notes = [scores.setting]
    if scores.counts:
        counts = ", ".join(
            f"{name} {count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") for name, count in scores.counts.items()
        )
        notes.append(f"Number of {scenario.things}: {counts}.")
    facts = [
        f"seed {scores.seed}" if scores.seed is not None else "",
        f"device {scores.device}" if scores.device else "",
    ]
    facts += [f"{name} {version}" for name, version in scores.versions.items()]
    if facts := [fact for fact in facts if fact]:
        notes.append(f"Run with {', '.join(facts)}. Source: {scenario.folder.name}/.")
    return tuple(note for note in notes if note)
