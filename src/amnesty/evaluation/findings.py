"""What scores allow to be said, question by question, and when they allow nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Question = Literal["utility", "membership", "likeness", "class", "canaries", "relearning"]
Answer = Literal["kept", "broken", "not detected", "remembered", "over-forgotten", "inconclusive"]

UTILITY_LOSS = 0.02
"""Holdout accuracy that may be lost before a model counts as broken: two points."""

RESIDUE = 0.25
"""Share of what a test sees in the original that it may still see, interval included, where nothing is detected."""

CLEAR = 0.05
"""Level of the tests."""

ENOUGH_POWER = 0.8


@dataclass(frozen=True)
class Finding:
    """The answer to one question, and the numbers it rests on, in words.

    Answers: ``"kept"`` or ``"broken"`` (utility); ``"not detected"``, ``"remembered"``, ``"over-forgotten"``; or
    ``"inconclusive"``, where these data could not have shown it: the original itself is not detected, or the
    interval is too wide. Nothing is ever found forgotten by a test that could not have failed.
    """

    question: Question
    answer: Answer
    reason: str


def findings(scores: Mapping[str, float]) -> tuple[Finding, ...]:
    """Return what `Scores`, or their like from a file, allow to be said.

    - *utility*: the holdout accuracy against the retrained model's, or else the original's, by the interval of the
      paired difference: broken if at least `UTILITY_LOSS` is surely lost, kept if surely less is lost. Of an image
      generator: the share of kept prompts drawn as asked, against the original's.
    - *membership*, *canaries*, *class*, *relearning*: with ``s`` the score, ``s_o`` the original's and ``t`` what
      never having seen the data means (an AUC of 1/2; no recognition, or no drawing, of a class that is gone; as
      many steps as for unseen data), or the retrained model's score where its interval excludes that,
      ``rho = (s - t) / (s_o - t)`` is the share of the original's signal that is left. Where the interval of ``s_o``
      holds ``t`` the test has no power: inconclusive, unless ``s`` itself stands out. Else remembered or
      over-forgotten where the interval of ``s`` excludes ``t`` and ``|rho|`` exceeds `RESIDUE`; not detected where
      the whole interval of ``rho`` is within; and inconclusive between, as where no interval is known.
    - *likeness*: the Kolmogorov-Smirnov test of margins, with its power; its direction is that of the largest shift
      among the hard, the median and the easy examples. Inconclusive where the retrained model differs, too.
    """
    asked = (_utility, _membership, _likeness, _class, _canaries, _relearning)
    return tuple(found for ask in asked if (found := ask(scores)) is not None)


def _utility(scores: Mapping[str, float]) -> Finding | None:
    found = next((row for row in _UTILITY if row[0] in scores), None)
    if found is None:
        return None
    key, what, whom, few = found
    change, low, high = _three(scores, key)
    said = f"{what} {_points(change)} points against {whom} [{_points(low)}, {_points(high)}]"
    if high <= -UTILITY_LOSS:
        return Finding("utility", "broken", f"{said}: at least {100 * UTILITY_LOSS:g} points are lost")
    if low >= -UTILITY_LOSS:
        return Finding("utility", "kept", said)
    return Finding("utility", "inconclusive", f"{said}: too few {few} to tell a loss of 2 points")


_UTILITY = (
    ("holdout_gap", "holdout accuracy", "the retrained model", "unseen examples"),
    ("holdout_change", "holdout accuracy", "the original", "unseen examples"),
    ("drawn_retain_change", "kept prompts drawn as asked", "the original", "images"),
)
"""What utility is told by, the first that there is: measure, in words, against whom, and of what there may be few."""


def _membership(scores: Mapping[str, float]) -> Finding | None:
    return _graded("membership", scores, "membership_auc", 0.5, "membership AUC")


def _canaries(scores: Mapping[str, float]) -> Finding | None:
    return _graded("canaries", scores, "canary_membership_auc", 0.5, "AUC of planted canaries")


def _class(scores: Mapping[str, float]) -> Finding | None:
    # A model that was never given a class never answers with it.
    if "drawn_forget_accuracy" in scores:  # nor does such a generator draw it, but for what the judge mistakes for it
        return _graded("class", scores, "drawn_forget_accuracy", 0.0, "forgotten prompts drawn as asked")
    return _graded("class", scores, "holdout_forgotten_accuracy", 0.0, "unseen examples of the class recognised")


def _relearning(scores: Mapping[str, float]) -> Finding | None:
    name = "steps to relearn over those for unseen data"
    return _graded("relearning", scores, "relearning_ratio", 1.0, name, remembered=-1)


def _graded(
    question: Question, scores: Mapping[str, float], key: str, never: float, name: str, remembered: int = 1
) -> Finding | None:
    """Grade a score for which one side of ``never`` means remembered: above, or below it with ``remembered=-1``."""
    if key not in scores or f"{key}_original" not in scores:
        return None
    target = remembered * _target(scores, key, never)
    value, low, high = _turned(scores, key, remembered)
    before, least, _ = _turned(scores, f"{key}_original", remembered)
    said = f"{name} {_interval(scores, key)}, original {_interval(scores, f'{key}_original')}"
    if least <= target:
        return Finding(question, *_without_power(low, high, target, said))
    left = [(x - target) / (before - target) for x in (value, low, high)]
    if low > target and left[0] > RESIDUE:
        return Finding(question, "remembered", f"{said}: {_share(left[0])} of the original's signal is left")
    if high < target and left[0] < -RESIDUE:
        return Finding(question, "over-forgotten", f"{said}: treated worse than unseen data")
    if left[1] >= -RESIDUE and left[2] <= RESIDUE:
        return Finding(
            question, "not detected", f"{said}: at most {_share(max(left[2], -left[1]))} of it can be left"
        )
    return Finding(question, "inconclusive", f"{said}: the interval is wider than a quarter of the original's signal")


def _target(scores: Mapping[str, float], key: str, never: float) -> float:
    """Return what never having seen the data means: ``never``, unless the retrained model surely differs from it.

    Its own value is noisy; but where unseen examples are not quite like the forgotten ones, it knows by how much.
    """
    if f"{key}_reference" not in scores:
        return never
    value, low, high = _three(scores, f"{key}_reference")
    return never if low <= never <= high else value


def _without_power(low: float, high: float, target: float, said: str) -> tuple[Answer, str]:
    """Answer where the original is not detected: what stands out by itself still stands out."""
    if low > target:
        return "remembered", f"{said}: better known than unseen data"
    if high < target:
        return "over-forgotten", f"{said}: treated worse than unseen data"
    return "inconclusive", f"{said}: the test does not detect the original either"


def _likeness(scores: Mapping[str, float]) -> Finding | None:
    if "margin_distance_p" not in scores or "margin_distance_power" not in scores:
        return None
    p, power = scores["margin_distance_p"], scores["margin_distance_power"]
    said = f"margins of forgotten and unseen examples differ by KS {scores['margin_distance']:.3f} ({_p(p)})"
    if p >= CLEAR:
        answer: Answer = "not detected" if power >= ENOUGH_POWER else "inconclusive"
        return Finding("likeness", answer, f"{said}; power against the original {_share(power)}")
    if scores.get("margin_distance_p_reference", 1.0) < CLEAR:
        return Finding("likeness", "inconclusive", f"{said}, and so do those of the retrained model")
    shifts = {where: scores[f"margin_shift{end}"] for where, end in _SHIFTS.items() if f"margin_shift{end}" in scores}
    where = max(shifts, key=lambda name: abs(shifts[name]))
    answer = "remembered" if shifts[where] > 0 else "over-forgotten"
    return Finding("likeness", answer, f"{said}, most {where}, by {shifts[where]:+.2f} nats")


_SHIFTS = {"in the middle": "", "at the hard end": "_of_hard", "at the easy end": "_of_easy"}


def _p(value: float) -> str:
    return "p < 1e-12" if value < 1e-12 else f"p = {value:.2g}"


def _three(scores: Mapping[str, float], key: str) -> tuple[float, float, float]:
    """Return a score and its interval, without end where none is known: then nothing is sure."""
    return scores[key], scores.get(f"{key}_low", -math.inf), scores.get(f"{key}_high", math.inf)


def _turned(scores: Mapping[str, float], key: str, sign: int) -> tuple[float, float, float]:
    value, *ends = (sign * x for x in _three(scores, key))
    return value, min(ends), max(ends)


def _interval(scores: Mapping[str, float], key: str) -> str:
    value, low, high = _three(scores, key)
    ends = (f"{end:.3f}" if math.isfinite(end) else "?" for end in (low, high))
    return f"{value:.3f} [{', '.join(ends)}]"


def _points(change: float) -> str:
    return f"{100 * change:+.1f}" if math.isfinite(change) else "?"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
