"""What may be said of an image generator, in sentences. Every word follows from the scores and their findings."""

from __future__ import annotations

from amnesty.evaluation.measures import MEASURES
from amnesty.reports.scenario import ORIGINAL, Scores
from amnesty.reports.words import DASH, method_name, percent, thousands

UNJUDGED = (
    "Nobody judged what the images show: no number says whether what was to be forgotten is still drawn. Look at "
    "them, and draw more."
)

_KEPT = {
    "kept": "kept prompts are drawn as asked as often as before",
    "broken": "kept prompts are drawn as asked less often than before",
    "inconclusive": "whether kept prompts are drawn as asked as often as before is open",
}
_FORGOTTEN = {
    "remembered": "What was to be forgotten is still drawn",
    "over-forgotten": "What was to be forgotten is drawn less often than by a generator that never met it",
    "inconclusive": "Whether what was to be forgotten is still drawn cannot be told from these images",
}
_QUESTIONS = {"class": "forgotten prompts", "utility": "kept prompts"}

_OTHERS = (
    ("exposed_share_at_60_percent", "Share of the images for forgotten prompts with nudity, as a detector sees it"),
    ("fid_retain", "Frechet distance of the images for kept prompts from real ones"),
    ("clip_score_retain", "CLIP score of the images for kept prompts"),
)


def drawn_headline(scores: Scores, method: str | None) -> str:
    """One line: whether what was to be forgotten is still drawn, and whether the rest is drawn as before."""
    answers = {} if method is None else {f.question: f.answer for f in scores.findings(method)}
    if not answers:
        return (
            "What was measured allows no verdict."
            if scores.judged
            else "Nobody judged what is drawn: look at the images."
        )
    kept = _KEPT.get(answers.get("utility", ""), "")
    if "class" not in answers:
        return f"Whether what was to be forgotten is still drawn was not measured; {kept}."
    if answers["class"] == "not detected":
        none = scores.value(method, "drawn_forget_accuracy") == 0
        said = f"What was to be forgotten is {'not seen in any image' if none else 'hardly drawn any more'}"
    else:
        said = _FORGOTTEN[answers["class"]]
    return f"{said}; {kept}." if kept else f"{said}."


def drawn_sentences(scores: Scores, method: str | None) -> tuple[str, ...]:
    """The numbers behind the headline, in words."""
    said = (_forgotten(scores, method), _each_concept(scores, method), _kept(scores, method))
    others = (_other(scores, method, key, what) for key, what in _OTHERS)
    return tuple(sentence for sentence in (*said, *others) if sentence)


def question_of(question: str) -> str:
    """What a finding on a generator answers, in words.

    >>> question_of("class")
    'forgotten prompts'
    """
    return _QUESTIONS.get(question, question)


def judged_counts(scores: Scores, method: str | None) -> str:
    """How many images a judge saw; empty where nobody judged."""
    parts = [
        f"{thousands(round(count))} for {what} prompts"
        for key, what in (("drawn_forget_accuracy", "forgotten"), ("drawn_retain_accuracy", "kept"))
        if (count := scores.value(method, f"{key}_count")) is not None
    ]
    return f"Of each model a judge saw {' and '.join(parts)}." if parts else ""


def _forgotten(scores: Scores, method: str | None) -> str:
    after = scores.value(method, "drawn_forget_accuracy")
    if after is None:
        return ""
    before, target = (scores.value(name, "drawn_forget_accuracy") for name in (ORIGINAL, scores.reference))
    was = "" if before is None else f"{percent(before)} before and "
    than = "" if target is None else f"; of a generator that never met it, {percent(target)}"
    return (
        f"Of the images drawn for forgotten prompts, {was}{percent(after)} after {method_name(method or '')} show "
        f"what was to be forgotten, as the judge sees it{than}."
    )


def _each_concept(scores: Scores, method: str | None) -> str:
    start = "drawn_forget_accuracy/"
    names = [key.removeprefix(start) for key in scores.methods.get(method or "", {}) if key.startswith(start)]
    names = [name for name in names if not name.endswith(_ENDS)]
    parts = [
        f"{name} {percent(scores.value(method, start + name))} ({_before(scores, start + name)} before)"
        for name in names[:_TOLD]
    ]
    more = f"; and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"Concept by concept: {', '.join(parts)}{more}." if parts else ""


_ENDS = ("_low", "_high", "_count")
_TOLD = 8  # concepts that stand in a sentence


def _before(scores: Scores, key: str) -> str:
    return percent(scores.value(ORIGINAL, key))


def _kept(scores: Scores, method: str | None) -> str:
    after = scores.value(method, "drawn_retain_accuracy")
    if after is None:
        return ""
    before, target = (scores.value(name, "drawn_retain_accuracy") for name in (ORIGINAL, scores.reference))
    values = {"before": before, "a generator that never met what is forgotten": target}
    known = [f"{who} {percent(value)}" for who, value in values.items() if value is not None]
    beside = f" ({', '.join(known)})" if known else ""
    return f"Of those drawn for kept prompts, {percent(after)} show what was asked for{beside}."


def _other(scores: Scores, method: str | None, key: str, what: str) -> str:
    after, before = scores.value(method, key), scores.value(ORIGINAL, key)
    if after is None:
        return ""
    fraction = MEASURES[key].unit == "fraction"
    now, was = (_text(value, fraction) for value in (after, before))
    return f"{what}: {now} after, {was} before."


def _text(value: float | None, fraction: bool) -> str:
    if fraction:
        return percent(value)
    return DASH if value is None else f"{value:.2f}"
