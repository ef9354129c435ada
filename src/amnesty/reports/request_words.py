"""What may be said of a request's run, in sentences. Every word follows from the findings; see `Finding`."""

from __future__ import annotations

from collections.abc import Sequence

from amnesty.evaluation import Finding
from amnesty.reports.drawn_words import UNJUDGED, drawn_headline
from amnesty.reports.request_run import Facts, RequestRun
from amnesty.reports.scenario import Scores
from amnesty.reports.verdict import headline as against_reference
from amnesty.reports.verdict import verdict
from amnesty.reports.words import method_name

_KEPT = {
    "kept": "what is to stay is kept",
    "broken": "what is to stay has suffered",
    "inconclusive": "whether what is to stay is kept is open",
}
_COPIES = {
    "move": "Copies in what was to be kept were forgotten, too; copies among unseen examples were taken out.",
    "drop": "Copies were taken out: they were neither trained on nor measured with.",
    "keep": "They were left where they are: what is said of forgetting is weaker for it.",
}


def run_headline(findings: Sequence[Finding]) -> str:
    """One line from the findings: whether traces were found, and whether the rest is kept.

    >>> run_headline([Finding("membership", "not detected", ""), Finding("utility", "kept", "")])
    'No trace was found of what was to be forgotten; what is to stay is kept.'
    """
    answers = {finding.question: finding.answer for finding in findings}
    kept = _KEPT.get(answers.pop("utility", ""), "")
    said = f"{_traces(list(answers.values()))}; {kept}" if kept else _traces(list(answers.values()))
    return f"{said}."


def _traces(answers: Sequence[str]) -> str:
    if "remembered" in answers:
        return "There are traces left of what was to be forgotten"
    if "over-forgotten" in answers:
        return "Forgotten too far: it stands out from data that was never seen"
    if "not detected" not in answers:
        return "Whether it is forgotten cannot be told from these data" if answers else "Not measured"
    if "inconclusive" in answers:
        return "No trace was found of what was to be forgotten, though not every test could have found one"
    return "No trace was found of what was to be forgotten"


def headline(run: RequestRun) -> str:
    """One line on what came of a request."""
    if run.generator:
        return drawn_headline(run.scores, run.method)
    return run_headline(() if run.method is None else run.scores.findings(run.method))


def sentences(run: RequestRun) -> tuple[str, ...]:
    """The numbers behind the headline, in words."""
    found = verdict(run.scenario).sentences
    if run.generator:
        return found if run.scores.judged else (UNJUDGED, *found)
    if run.scores.reference is None:
        return found
    return (f"Beside the retrained model: {_lower(against_reference(run.scenario))}", *found)


def how_chosen(facts: Facts, will: bool = False) -> str:
    """Who chose the method's settings, or ``will`` choose them."""
    if facts.self_tuned:
        return f"which {'chooses' if will else 'chose'} its step size and when to stop by itself"
    return "with the settings of the request" if facts.tuned else "with its default settings"


def duplicates_note(run: RequestRun) -> str:
    """What was found of copies of the forget set, and what was done."""
    count = sum(sum(kinds.values()) for kinds in run.facts.duplicates.values())
    if not run.facts.action and not run.facts.duplicates:
        if run.generator:
            return (
                "Copies of images were not searched for: both what is forgotten and what is kept would need images "
                "of its own, and what has none is drawn by the original."
            )
        return "Copies of what was to be forgotten were not searched for."
    if count == 0:
        return "No copies of what was to be forgotten were found elsewhere in the data."
    known = f"{count} copies of what was to be forgotten were found elsewhere in the data."
    return f"{known} {_COPIES.get(run.facts.action, f'What was done: {run.facts.action}.')}"


def beside_note(run: RequestRun) -> str:
    """How to read the scores beside those of a model that never had the data, or without one."""
    if run.generator:
        if not run.scores.judged:
            return "Nobody judged what the images show." if run.scores.of_images else ""
        if run.scores.reference is not None:
            return "The aim is to do as the generator that never met what is forgotten, whose judge errs as often."
        return (
            "The judge errs, too: look at the numbers of the original. A low share by itself is no merit, as a "
            "destroyed generator draws nothing that was asked for: look at the kept prompts, and at the images."
        )
    if run.scores.reference is not None:
        return "The aim is to do as the retrained model does, not to score low."
    return (
        "There is no retrained model to compare with: a low forget accuracy by itself is no merit, as a model that "
        "never saw the examples may know many of them all the same."
    )


def earlier_note(run: RequestRun) -> str:
    """How it was found out whether earlier requests came back."""
    how = "What they had forgotten was tested again, where it was at hand."
    if run.generator:
        how = "What they had forgotten was drawn again by both models, where a judge knows what it looks like."
    return f"This request was carried out on the result of others. {how}"


def verify_note(run: RequestRun) -> str:
    """What can be measured again."""
    if not run.generator:
        return "With the data at hand it measures the model again."
    if not run.scores.of_images:
        return "There are no scores of images to measure again."
    return "With the original and the judge at hand (`--data`) it draws the images and measures them again."


def interval(scores: Scores, method: str, measure: str) -> tuple[float, float] | None:
    """The 95 % interval of a measure, where it is known."""
    low, high = (scores.value(method, measure + end) for end in ("_low", "_high"))
    return None if low is None or high is None else (low, high)


def done(run: RequestRun) -> str:
    """Which method was used, and how it was set."""
    return f"{method_name(run.method or run.facts.method)}, {how_chosen(run.facts)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
