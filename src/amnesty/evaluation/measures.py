"""Finding measures by name, and whether methods may be ranked by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from amnesty.errors import InvalidInputError, MissingMeasureError, MissingReferenceError, UnknownNameError
from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measure_table import TABLE

_ENDS = ("_low", "_high", "_count", "_against")
_OTHERS = ("_original", "_reference", "_null")
SUFFIXES = (*_ENDS, *_OTHERS)
"""Of a measure's name: the ends of its 95 % interval, the number of examples and of those compared with, and the same
measure of the original, of the retrained model, and of a second retrained one."""

_HOW = {
    "unseen": "needs unseen examples: give the task a `holdout` or `nonmembers` part with the forgotten classes",
    "retain": "needs the retain set: give the task one",
    "original": "needs the original model's answers",
    "reference": "compares with a retrained model; pass `reference=` to `evaluate`",
    "floor": "compares two retrained models; pass `reference=` and `second_reference=` to `evaluate`",
    "canaries": "needs canaries that were planted before training; pass `canaries=` to `evaluate`",
    "relearning": "trains the model again; ask for it with `also=['relearning']`",
    "teachers": "runs untrained networks; ask for it with `also=['teachers']`",
    "compat": "rebuilds a published protocol; ask for it with `also=['compat']`",
    "zero-shot": "is measured of models of two towers: make the task an `amnesty.ZeroShot`",
    "transfers": "needs other data sets: make the task an `amnesty.ZeroShot` with `transfers`",
    "captions": "needs images with captions: make the task an `amnesty.ZeroShot` with `captions`",
    "paraphrases": "needs further templates: make the task an `amnesty.ZeroShot` with `paraphrases`",
    "judge": "is measured of image generators: pass `judge=` to `amnesty.evaluation.GenerationEvaluator`",
    "real": "compares drawn with real images: pass `real=` to `amnesty.evaluation.GenerationEvaluator`",
    "clip": "is measured of image generators: pass `clip=` to `amnesty.evaluation.GenerationEvaluator`",
    "nudity": "is measured of image generators: pass `nudity=` to `amnesty.evaluation.GenerationEvaluator`",
}
_OF_GENERATORS = ("judge", "real", "clip", "nudity")
_BEYOND_ANSWERS = (
    "compat",
    "relearning",
    "teachers",
    "zero-shot",
    "transfers",
    "captions",
    "paraphrases",
    *_OF_GENERATORS,
)


MEASURES: dict[str, Measure] = {measure.key: measure for measure in TABLE}
"""Key -> measure, in the order in which tables show them."""


def measure_named(key: str) -> Measure:
    """Return the measure of a key.

    Raises:
        UnknownNameError: there is none; the message suggests the nearest.
    """
    if key not in MEASURES:
        raise UnknownNameError("measure", key, MEASURES)
    return MEASURES[key]


def base(key: str) -> str:
    """Return the measure that a number belongs to, without its suffixes.

    >>> base("membership_auc_original_low"), base("membership_auc_entropy_low"), base("js_to_reference"), base("mine")
    ('membership_auc', 'membership_auc_entropy', 'js_to_reference', 'mine')
    """
    if key in MEASURES:
        return key
    shorter = next((key.removesuffix(suffix) for suffix in SUFFIXES if key.endswith(suffix)), key)
    return base(shorter) if shorter != key else key


def is_own(key: str) -> bool:
    """Say whether a number is the model's own, with its interval, and not that of another model beside it.

    >>> is_own("membership_auc_low"), is_own("membership_auc_original_low"), is_own("js_to_reference")
    (True, False, True)
    """
    bare = next((key.removesuffix(end) for end in _ENDS if key not in MEASURES and key.endswith(end)), key)
    return bare in MEASURES or not bare.endswith(_OTHERS)


REMEMBERED = (
    "forget_accuracy",
    "holdout_forgotten_accuracy",
    "membership_auc",
    "membership_advantage",
    "margin_distance",
    "margin_shift",
    "canary_accuracy",
    "canary_membership_auc",
    "relearning_ratio",
    "paraphrased_forget_accuracy",
    "best_paraphrase_forget_accuracy",
    "probe_forget_accuracy",
    "pair_membership_auc",
    "drawn_forget_accuracy",
    "drawn_forget_probability",
    "clip_score_forget",
    "exposed_share_at_60_percent",
    "exposed_share_at_80_percent",
)
"""What is told of the original too: measures of what is remembered."""


def of_original(theirs: Mapping[str, float]) -> dict[str, float]:
    """Return the original's numbers of `REMEMBERED`, named ``m_original``, and their intervals."""
    return _remembered(theirs, "original")


def _remembered(theirs: Mapping[str, float], who: str) -> dict[str, float]:
    ends = [(key, end) for key in REMEMBERED for end in ("", "_low", "_high") if key + end in theirs]
    return {f"{key}_{who}{end}": theirs[key + end] for key, end in ends}


def of_another(theirs: Mapping[str, float], who: Literal["reference", "null"]) -> dict[str, float]:
    """Return the measures of a retrained model, named ``m_reference``, or of a second one, named ``m_null``.

    Those of `REMEMBERED` of the reference come with their intervals. Its own comparisons, with the original and with
    itself, are left out.
    """
    found = {key: value for key, value in theirs.items() if base(key) == key}
    if who == "reference":
        compared = {key for key, measure in MEASURES.items() if measure.needs in ("original", "reference")}
        found = {key: value for key, value in found.items() if key not in compared}
    named = {f"{key}_{who}": value for key, value in found.items()}
    return named | (_remembered(theirs, who) if who == "reference" else {})


def beyond_answers(recorded: Mapping[str, float]) -> dict[str, float]:
    """Return those of a model's own numbers that its answers cannot tell: they stay as they were recorded.

    >>> beyond_answers({"seconds": 2.0, "relearning_ratio_low": 0.4, "forget_accuracy": 1.0, "my_own": 3.0})
    {'seconds': 2.0, 'relearning_ratio_low': 0.4, 'my_own': 3.0}
    """
    found = {}
    for key, value in recorded.items():
        measure = MEASURES.get(base(key))
        further = measure is None or measure.needs in _BEYOND_ANSWERS
        if is_own(key) and (further or base(key) in ("seconds", "weight_distance")):
            found[key] = value
    return found


def missing(key: str, known: Iterable[str], reasons: Mapping[str, str]) -> Exception:
    """Return the error that says why scores do not have a measure; ``reasons`` are of those that were tried."""
    if base(key) not in MEASURES:
        return UnknownNameError("measure", key, known)
    if base(key) in reasons:
        return MissingMeasureError(f"`{key}` could not be taken: {reasons[base(key)]}")
    needs = MEASURES[base(key)].needs
    if key.endswith(("_reference", "_null")):
        needs = "reference" if key.endswith("_reference") else "floor"
    reason = _HOW.get(needs, "was not taken")
    kind = MissingReferenceError if needs in ("reference", "floor") else MissingMeasureError
    return kind(f"`{key}` {reason}.")


def criterion(key: str) -> Measure:
    """Return a measure that methods may be ranked by.

    Raises:
        InvalidInputError: the measure, read alone, prefers a model that nobody wants: the one that was never
            unlearned, or one that was destroyed. Rank by its distance to the retrained model instead.
        UnknownNameError: there is no such measure.
    """
    measure = measure_named(key)
    if measure.blind:
        allowed = ", ".join(name for name, other in MEASURES.items() if not other.blind)
        raise InvalidInputError(
            f"Methods cannot be ranked by `{key}`: {measure.blind}. Rank by the distance of `{key}` to that of the "
            f"retrained model, or by one of {allowed}."
        )
    return measure
