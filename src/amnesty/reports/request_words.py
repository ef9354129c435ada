"""What may be said of a request's run, in sentences. Every word follows from the findings; see `Finding`."""

from __future__ import annotations

from collections.abc import Sequence

from amnesty.evaluation import Finding
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


def sentences(run: RequestRun) -> tuple[str, ...]:
    """The numbers behind the headline, in words."""
    found = verdict(run.scenario).sentences
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
        return "Copies of what was to be forgotten were not searched for."
    if count == 0:
        return "No copies of what was to be forgotten were found elsewhere in the data."
    known = f"{count} copies of what was to be forgotten were found elsewhere in the data."
    return f"{known} {_COPIES.get(run.facts.action, f'What was done: {run.facts.action}.')}"


def limits(run: RequestRun) -> tuple[str, ...]:
    """What the record does not prove."""
    lines = [
        "A test that finds nothing bounds what it could have found, on these examples, with 95 % confidence. A "
        "stronger attack may find what these tests do not.",
        "It speaks of this model. Copies of the original, models that were made from it, its recorded answers, "
        "backups and the data itself are where they were.",
        "It is as good as the data it was given: unseen examples that the model was trained on after all make "
        "every test blunt, and examples that nobody named were not forgotten.",
        "The hashes show that these files are those that were measured. They do not show which model answers "
        "your users: compare its hash with that of the unlearned model.",
    ]
    if run.scores.reference is None:
        lines.append(
            "No model that was retrained without the examples was at hand: how far the unlearned one is from it is "
            "not known."
        )
    if run.facts.action == "keep" and any(sum(kinds.values()) for kinds in run.facts.duplicates.values()):
        lines.append("Copies of forgotten examples are still in the data: the model may know them from there.")
    if not run.facts.action and not run.facts.duplicates:
        lines.append("Copies of forgotten examples may be in the data that was kept: none were searched for.")
    unsure = [entry.name for entry in run.facts.rechecked if entry.answer not in ("not detected", "came back")]
    if unsure:
        lines.append(f"Whether what was forgotten earlier stayed forgotten is not known of: {', '.join(unsure)}.")
    return tuple(lines)


def interval(scores: Scores, method: str, measure: str) -> tuple[float, float] | None:
    """The 95 % interval of a measure, where it is known."""
    low, high = (scores.value(method, measure + end) for end in ("_low", "_high"))
    return None if low is None or high is None else (low, high)


def done(run: RequestRun) -> str:
    """Which method was used, and how it was set."""
    return f"{method_name(run.method or run.facts.method)}, {how_chosen(run.facts)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
