"""How far is an unlearned model from a retrained one, in numbers that tables of the field print?

Scores are mappings from a measure's name to its value. Accuracies are fractions from 0 to 1, never percent. Every
function needs the scores of a retrained model; there is no default for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError, MissingReferenceError

GAP_PARTS = ("forget_accuracy", "retain_accuracy", "holdout_accuracy", "membership_auc")
"""What `average_gap` averages over."""

PAPER_PARTS = ("unlearning_accuracy", "retain_accuracy", "holdout_accuracy", "svc_confidence_compat")
"""UA, RA, TA and MIA of the tables of SalUn and its successors; all four are needed."""

ACCURACY_PARTS = ("forget_accuracy", "retain_accuracy", "holdout_accuracy")
"""The accuracies that `tug_of_war` and the retentions compare; all three are needed."""


@dataclass(frozen=True)
class GapFloor:
    """What a model that forgot perfectly would score: the gaps between two sets of retrained models.

    Attributes:
        of_means: what `average_gap_of_means` gives, in [0, 1].
        paired: what `average_gap_paired` gives, in [0, 1]; never below ``of_means``.
        count: number of seeds on each side. ``of_means`` is a floor for that many seeds only.
    """

    of_means: float
    paired: float
    count: int


def average_gap(
    scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str] = GAP_PARTS
) -> float:
    """Return the mean of ``|scores - reference|`` over those of `GAP_PARTS` that both have; 0 is ideal.

    Like the average gap of Fan et al., SalUn, ICLR 2024, with a membership AUC, which has a sign, in place
    of their attack's accuracy. Two retrained models differ too: print that floor, `gap_floor`, beside it. A mean of
    distances hides whether too little or too much was forgotten: print `signed_gaps` as well.

    Args:
        scores: of the unlearned model.
        reference: of the retrained model.
        parts: what to average over. Of `GAP_PARTS` the shared ones are taken; of any other choice, such as
            `PAPER_PARTS`, all must be there.

    Raises:
        MissingReferenceError: they share none of `GAP_PARTS`, or the reference lacks one of other ``parts``.
        InvalidInputError: the scores lack one, or a score is not a fraction.

    Example:
        >>> retrained = {"forget_accuracy": 0.75, "retain_accuracy": 1.0}
        >>> average_gap({"forget_accuracy": 0.5, "retain_accuracy": 1.0}, retrained)
        0.125
    """
    return average_gap_paired([scores], [reference], parts)


def signed_gaps(
    scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str] = GAP_PARTS
) -> dict[str, float]:
    """Return ``scores - reference`` for each part, each in [-1, 1]; 0 is ideal.

    For ``forget_accuracy`` and ``membership_auc`` above 0 means that something is still remembered, below 0 that
    more was forgotten than retraining forgets. Arguments and errors as `average_gap`.
    """
    names, own, other = _side_by_side([scores], [reference], parts)
    return dict(zip(names, (own - other)[0].tolist(), strict=True))


def average_gap_of_means(
    many: Sequence[Mapping[str, float]], references: Sequence[Mapping[str, float]], parts: Sequence[str] = GAP_PARTS
) -> float:
    """Return the mean over ``parts`` of ``|mean of scores - mean of references|``, means over seeds; 0 is ideal.

    The average gap that papers print. It is biased upwards: for normal noise of deviation s in both models, a model
    that forgot perfectly scores about ``2 s / sqrt(pi n)`` per part with n seeds. So it shrinks with more seeds, and
    values of different numbers of seeds cannot be compared. Print `gap_floor` beside it.

    Args:
        many: scores of the unlearned models, one mapping per seed.
        references: scores of the retrained models, one mapping per seed; they may be more or fewer.
        parts: as `average_gap`; a part that one seed lacks counts as missing.

    Raises:
        MissingReferenceError, InvalidInputError: as `average_gap`; no seed at all.
    """
    _, own, other = _side_by_side(many, references, parts)
    return float(np.mean(np.abs(own.mean(axis=0) - other.mean(axis=0))))


def average_gap_paired(
    many: Sequence[Mapping[str, float]], references: Sequence[Mapping[str, float]], parts: Sequence[str] = GAP_PARTS
) -> float:
    """Return the mean over seeds of `average_gap`, each model against the retrained one of its seed; 0 is ideal.

    Its expectation does not depend on the number of seeds: noise of deviation s in both models adds about
    ``2 s / sqrt(pi)`` per part, however many there are. Never below `average_gap_of_means` on the same scores.
    Arguments and errors as there, but both sides must be of the same length and in the same order of seeds.
    """
    _, own, other = _side_by_side(many, references, parts)
    if len(own) != len(other):
        raise InvalidInputError(
            f"Pairs need as many references as scores, but found {len(own)} scores and {len(other)} references. "
            "Pass one of each per seed, in the same order."
        )
    return float(np.mean(np.abs(own - other)))


def gap_floor(
    references: Sequence[Mapping[str, float]],
    second_references: Sequence[Mapping[str, float]],
    parts: Sequence[str] = GAP_PARTS,
) -> GapFloor:
    """Measure the average gap between models that were both retrained: a smaller gap is noise.

    The second ones are retrained on the same data with other seeds, as many as the unlearned models have, and take
    their place. The floor is measured, never guessed. Arguments and errors as `average_gap_paired`.
    """
    if not second_references or not all(second_references):
        raise MissingReferenceError(
            "A floor is the gap between two retrained models; pass the scores of a second one as `second_references`."
        )
    paired = average_gap_paired(second_references, references, parts)
    return GapFloor(average_gap_of_means(second_references, references, parts), paired, len(references))


def tug_of_war(scores: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return the product of ``1 - |accuracy - reference accuracy|`` on the forget, retain and hold-out sets.

    In [0, 1]; higher is better; 1: the three accuracies are those of the retrained model. Two retrained models
    score about 0.99 against each other. Take it per seed, then average.

    Source: Zhao et al., What makes unlearning hard and what to do about it, NeurIPS 2024, arXiv:2406.01257.

    Raises:
        MissingReferenceError, InvalidInputError: one of `ACCURACY_PARTS` is missing, or not in [0, 1].
    """
    return _closeness(scores, reference, ACCURACY_PARTS)


def tug_of_war_membership(scores: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return `tug_of_war` with ``svc_confidence_compat`` in place of the accuracy on the forget set.

    That is their variant for a membership attack: the share of the forget set, as a fraction, that an SVC on the
    confidence calls unseen. In [0, 1]; higher is better. Source and errors as `tug_of_war`.
    """
    return _closeness(scores, reference, ("svc_confidence_compat", *ACCURACY_PARTS[1:]))


def retention(
    scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str] = ACCURACY_PARTS
) -> dict[str, float]:
    """Return ``scores / reference`` for each part; 1 is ideal, and it can exceed 1.

    Source: Cadet et al., Deep Unlearn, arXiv:2410.01276.

    Raises:
        MissingReferenceError, InvalidInputError: a part is missing, not in [0, 1], or 0 in the reference, as the
            accuracy on a wholly forgotten class is: leave that part out.
    """
    names, own, other = _side_by_side([scores], [reference], parts, lowest=0.0)
    zero = [name for name, value in zip(names, other[0], strict=True) if value == 0]
    if zero:
        raise InvalidInputError(
            f"Retention divides by the reference, which is 0 for {', '.join(zero)}. Leave that out of `parts`, "
            "or use `signed_gaps`."
        )
    return dict(zip(names, (own / other)[0].tolist(), strict=True))


def retention_deviation(
    scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str] = ACCURACY_PARTS
) -> float:
    """Return the sum of ``|1 - retention|`` over the parts; at least 0, lower is better. Errors as `retention`."""
    return float(sum(abs(1 - value) for value in retention(scores, reference, parts).values()))


def symmetric_percentage_error(
    scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str] = ACCURACY_PARTS
) -> dict[str, float]:
    """Return ``100 |a - b| / (a + b)`` (SAPE) for each part, in percent from 0 to 100; 0 is ideal.

    Two zeros count as equal: 0. It inflates gaps of small quantities: 0.1 % against 0.2 % gives 33.

    Source: Cadet et al., Deep Unlearn, arXiv:2410.01276.

    Raises:
        MissingReferenceError, InvalidInputError: a part is missing, or not in [0, 1].
    """
    names, own, other = _side_by_side([scores], [reference], parts, lowest=0.0)
    total = own + other
    errors = 100 * np.abs(own - other) / np.where(total > 0, total, 1.0)
    return dict(zip(names, errors[0].tolist(), strict=True))


def runtime_efficiency(seconds: float, reference_seconds: float) -> float:
    """Return ``reference_seconds / seconds``: how many times faster than retraining; higher is better.

    Time everything that the method needs, evaluation excluded. Tables after SalUn print under the same name, RTE,
    the minutes themselves, where lower is better; the two must not be mixed.

    Raises:
        MissingReferenceError: no time of retraining.
        InvalidInputError: a time that is not positive and finite.

    Example:
        >>> runtime_efficiency(60.0, 600.0)
        10.0
    """
    return _positive("reference_seconds", reference_seconds) / _positive("seconds", seconds)


def _positive(name: str, value: float | None) -> float:
    if value is None:
        raise MissingReferenceError(f"`{name}` is missing; pass the seconds that were measured.")
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"`{name}` must be positive and finite, found {value}.")
    return float(value)


def _closeness(scores: Mapping[str, float], reference: Mapping[str, float], parts: Sequence[str]) -> float:
    _, own, other = _side_by_side([scores], [reference], parts, lowest=0.0)
    return float(np.prod(1 - np.abs(own - other)))


def _side_by_side(
    many: Sequence[Mapping[str, float]],
    references: Sequence[Mapping[str, float]],
    parts: Sequence[str],
    lowest: float = -1.0,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names compared and both sides' values, shapes [seeds, names] and [references, names]."""
    if not references or not all(references):
        raise MissingReferenceError("A gap compares with a retrained model; pass the scores of one as the reference.")
    if not many:
        raise InvalidInputError("A gap needs the scores of at least one unlearned model, found none.")
    names = _compared(many, references, parts)
    own, other = (
        np.array([[_fraction(side, name, row[name], lowest) for name in names] for row in rows])
        for side, rows in (("scores", many), ("reference", references))
    )
    return names, own, other


def _compared(
    many: Sequence[Mapping[str, float]], references: Sequence[Mapping[str, float]], parts: Sequence[str]
) -> list[str]:
    own, other = ([p for p in parts if all(p in row for row in rows)] for rows in (many, references))
    shared = [name for name in own if name in other]
    if tuple(parts) == GAP_PARTS and shared:
        return shared  # a task without hold-out data still has a gap
    if not shared:
        raise MissingReferenceError(f"The scores and the reference share none of {', '.join(parts)}.")
    for side, has, error in (
        ("scores lack", own, InvalidInputError),
        ("reference lacks", other, MissingReferenceError),
    ):
        lacking = [name for name in parts if name not in has]
        if lacking:
            raise error(f"The {side} {', '.join(lacking)}; this measure needs all of {', '.join(parts)}.")
    return shared


def _fraction(side: str, name: str, value: float, lowest: float) -> float:
    if lowest <= value <= 1:  # False for NaN
        return float(value)
    hint = " It looks like percent: divide by 100." if 1 < value <= 100 else ""
    raise InvalidInputError(f"`{name}` of the {side} must be a fraction from {lowest:g} to 1, found {value}.{hint}")
