"""What the numbers of a scenario say, in sentences. Every word is computed; nothing is assumed to have worked."""

from __future__ import annotations

from dataclasses import dataclass

from amnesty.reports.drawn_words import drawn_headline, drawn_sentences
from amnesty.reports.scenario import ORIGINAL, Scenario
from amnesty.reports.words import duration, method_name, percent, share

TOLERANCE = 0.02  # within two points of the reference counts as alike
_TRACES = {
    "remembered": "a membership test still finds traces",
    "over-forgotten": "a membership test tells it from unseen data",
    "inconclusive": "whether single examples left traces is open",
}


@dataclass(frozen=True)
class Verdict:
    """A headline, and the sentences that back it."""

    headline: str
    sentences: tuple[str, ...]


def verdict(scenario: Scenario) -> Verdict:
    """The verdict on the scenario's featured method."""
    if scenario.scores.of_images:
        told = (*drawn_sentences(scenario.scores, scenario.featured), _cost(scenario))
        return Verdict(headline(scenario), tuple(sentence for sentence in told if sentence))
    sentences = (
        _forgotten(scenario),
        _kept(scenario),
        _regained(scenario),
        _member(scenario),
        _cost(scenario),
    )
    return Verdict(headline(scenario), tuple(sentence for sentence in sentences if sentence))


def headline(scenario: Scenario) -> str:
    """One line: how far it is forgotten, whether the rest is kept, whether an attack still finds traces.

    "Forgotten" means that the forget accuracy is within `TOLERANCE` of the reference, on either side.
    """
    scores, method = scenario.scores, scenario.featured
    gap = scores.gap(method, "forget_accuracy")
    if method is None:
        return "No unlearning method was run."
    if scores.of_images:
        return drawn_headline(scores, method)
    if gap is None:
        return "Not comparable: no retrained model was measured." if scores.reference is None else "Not measured."
    parts = [_degree(scores.gap(ORIGINAL, "forget_accuracy"), gap)]
    losses = [scores.gap(method, key) for key in ("retain_accuracy", "holdout_accuracy")]
    if known := [loss for loss in losses if loss is not None]:
        parts.append("the rest is kept" if min(known) >= -TOLERANCE else "the rest has suffered")
    found = {finding.question: finding.answer for finding in scores.findings(method)}
    if traces := _TRACES.get(found.get("membership", "")):
        parts.append(traces)
    return "; ".join(parts) + "."


def _degree(before: float | None, after: float) -> str:
    if abs(after) <= TOLERANCE:
        if before is not None and abs(before) <= TOLERANCE:
            return "As if it had never been seen, though the original was close to that too"
        return "Forgotten as if it had never been seen"
    if after < 0:
        return "Forgotten further than by retraining"
    closed = 1 - after / abs(before) if before else 0.0
    return "Mostly forgotten" if closed >= 0.5 else "Partly forgotten" if closed >= 0.1 else "Not forgotten"


def _forgotten(scenario: Scenario) -> str:
    before, after, target = _three(scenario, "forget_accuracy")
    if after is None:
        return ""
    name = method_name(scenario.featured or "")
    verbs = ("repeated", "repeats") if scenario.wrong_labels else ("recognised", "recognises")
    subject = "Of the wrong labels" if scenario.wrong_labels else f"Of the {scenario.things} to forget"
    was = "" if before is None else f"{verbs[0]} {percent(before)} before and "
    than = "" if target is None else f"; a model retrained without them {verbs[1]} {percent(target)}"
    return f"{subject}, the model {was}{verbs[1]} {percent(after)} after {name}{than}."


def _kept(scenario: Scenario) -> str:
    whole_class = scenario.scores.has("holdout_forgotten_accuracy")
    others = " of the other classes" if whole_class else ""
    parts = []
    for key, subject in (
        ("retain_accuracy", f"of the {scenario.things} to keep"),
        ("holdout_accuracy", f"of {scenario.things}{others} that no model has seen"),
    ):
        before, after, target = _three(scenario, key)
        if after is not None:
            parts.append(f"{percent(after)} {subject}{_compared(before, target)}")
    return f"It recognises {' and '.join(parts)}." if parts else ""


def _regained(scenario: Scenario) -> str:
    before, after, target = _three(scenario, "holdout_accuracy")
    if not scenario.wrong_labels or before is None or after is None or target is None:
        return ""
    if target - before < 0.005:
        return ""
    regained = (after - before) / (target - before)
    if regained < 0:
        return "It lost accuracy on unseen data, where retraining gains some by dropping the wrong labels."
    if regained >= 1:
        return "That is all of the accuracy that the wrong labels had cost."
    return f"That wins back {share(regained)} of the accuracy that the wrong labels had cost."


def _member(scenario: Scenario) -> str:
    before, after, target = _three(scenario, "membership_auc")
    if after is None:
        return ""
    thing = scenario.things.removesuffix("s")
    said = (
        f"Shown one forgotten and one unseen {thing}, a membership test points out the forgotten one in "
        f"{percent(after)} of cases{_compared(before, target)}; tossing a coin would in {share(0.5)}."
    )
    least = scenario.scores.value(ORIGINAL, "membership_auc_low")
    found = {finding.question: finding.answer for finding in scenario.scores.findings(scenario.featured or "")}
    if least is not None and least <= 0.5 and found.get("membership") == "inconclusive":
        said += " That it does not detect the original either means that this test shows nothing here."
    return said


def _cost(scenario: Scenario) -> str:
    _, ours, theirs = _three(scenario, "seconds")
    if ours is None:
        return ""
    if theirs is None or theirs <= 0:
        return f"Unlearning took {duration(ours)}."
    ratio = ours / theirs
    part = f"less than {share(0.01)}" if ratio < 0.005 else share(ratio)
    times = f"{part} of that" if ratio < 0.995 else f"{ratio:.1f} times as long"
    return f"Retraining took {duration(theirs)}, unlearning {duration(ours)}: {times}."


def _compared(before: float | None, target: float | None) -> str:
    values = {"before": before, "retrained": target}
    parts = [f"{word} {percent(value)}" for word, value in values.items() if value is not None]
    return f" ({', '.join(parts)})" if parts else ""


def _three(scenario: Scenario, measure: str) -> tuple[float | None, float | None, float | None]:
    """The measure before, after, and of the reference."""
    scores = scenario.scores
    return (
        scores.value(ORIGINAL, measure),
        scores.value(scenario.featured, measure),
        scores.value(scores.reference, measure),
    )
