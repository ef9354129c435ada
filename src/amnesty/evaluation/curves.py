"""All thresholds at once: what a single sort of the scores of members and non-members tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amnesty.errors import InvalidInputError


class Scan(NamedTuple):
    """The best threshold: call a score of at least ``threshold`` a member; ``accuracy`` is balanced."""

    threshold: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Roc:
    """The receiver operating characteristic of "call a score of at least the threshold a member".

    Attributes:
        thresholds: the distinct scores, descending, behind a first ``inf`` that calls nobody; shape [k].
        members_called: how many members each threshold calls members, shape [k], from 0 to all of them.
        nonmembers_called: how many non-members it calls so.
    """

    thresholds: np.ndarray
    members_called: np.ndarray
    nonmembers_called: np.ndarray

    @property
    def members(self) -> int:
        """How many members there are."""
        return int(self.members_called[-1])

    @property
    def nonmembers(self) -> int:
        """How many non-members there are."""
        return int(self.nonmembers_called[-1])

    @property
    def true_positive(self) -> np.ndarray:
        """The share of members called members, by threshold, in [0, 1]."""
        return self.members_called / self.members

    @property
    def false_positive(self) -> np.ndarray:
        """The share of non-members called members, by threshold, in [0, 1]."""
        return self.nonmembers_called / self.nonmembers

    @property
    def auc(self) -> float:
        """The chance that a member scores above a non-member, ties counting half; in [0, 1], chance is 0.5."""
        steps = np.diff(self.nonmembers_called).astype(np.float64)
        above = self.members_called[:-1].astype(np.float64) + self.members_called[1:]
        # Counts are whole numbers, so that no rounding enters before the division.
        return float(steps @ above / 2 / (self.members * self.nonmembers))

    @property
    def ks(self) -> float:
        """The Kolmogorov-Smirnov distance of the two laws, ``max |TPR - FPR|``; in [0, 1], 0 for equal ones."""
        return float(np.abs(self.true_positive - self.false_positive).max())

    @property
    def best(self) -> Scan:
        """The highest threshold of the highest balanced accuracy, ``(TPR + TNR) / 2``, at least 0.5."""
        gain = (self.true_positive - self.false_positive)[1:]
        found = int(np.argmax(gain))
        return Scan(float(self.thresholds[1 + found]), float(0.5 + 0.5 * gain[found]))

    @property
    def reversed(self) -> Roc:
        """The curve of the opposite attack, which calls low scores members: that of both sides' negatives."""
        return Roc(
            np.append(np.inf, -self.thresholds[:0:-1]),
            self.members - self.members_called[::-1],
            self.nonmembers - self.nonmembers_called[::-1],
        )

    def called_at(self, fpr: float) -> int:
        """Return how many members the lowest threshold calls whose false positive rate is at most ``fpr``.

        The non-members alone decide it: it lies just above the largest of their scores that may not be called.

        Raises:
            InvalidInputError: ``fpr`` is not in [0, 1].
        """
        if not 0 <= fpr <= 1:
            raise InvalidInputError(f"A false positive rate must lie in [0, 1], found {fpr}.")
        last = int(np.searchsorted(self.false_positive, fpr, side="right")) - 1
        return int(self.members_called[last])

    def rate_at(self, fpr: float) -> float:
        """Return the largest true positive rate at a false positive rate of at most ``fpr``; see `called_at`."""
        return self.called_at(fpr) / self.members


def roc(members: np.ndarray, nonmembers: np.ndarray) -> Roc:
    """Sort the scores of members, shape [n], and non-members, shape [m], once; equal scores are one step.

    Infinite scores are allowed. O((n + m) log(n + m)), and linear for all that is read from the result.

    Raises:
        InvalidInputError: a side is empty, not one-dimensional, or holds NaN.

    >>> curve = roc(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0]))
    >>> curve.auc, curve.rate_at(0.0), curve.best
    (0.9166666666666666, 0.6666666666666666, Scan(threshold=2.0, accuracy=0.8333333333333333))
    """
    members, nonmembers = checked(members, nonmembers)
    scores = np.concatenate([members, nonmembers])
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    called = np.append(0, np.cumsum(order < len(members))[last_of_tie])
    thresholds = np.append(np.inf, ordered[last_of_tie])
    return Roc(thresholds, called, np.append(0, last_of_tie + 1) - called)


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Return the chance that a member scores above a non-member, ties counting half; in [0, 1].

    0.5: the two cannot be told apart. One sort. Raises `InvalidInputError` if a side is empty or holds NaN.
    """
    return roc(members, nonmembers).auc


def threshold_scan(members: np.ndarray, nonmembers: np.ndarray) -> Scan:
    """Find the threshold of the highest balanced accuracy, ``(TPR + TNR) / 2``, with one sort.

    Raises `InvalidInputError` if a side is empty or holds NaN.
    """
    return roc(members, nonmembers).best


def checked(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides in float64, or raise `InvalidInputError`: empty, not one-dimensional, or with NaN."""
    sides = np.asarray(members, dtype=np.float64), np.asarray(nonmembers, dtype=np.float64)
    if any(side.ndim != 1 for side in sides):
        raise InvalidInputError(
            f"A membership test needs one score for each example, found shapes {sides[0].shape} and {sides[1].shape}."
        )
    check_counts(*map(len, sides))
    if any(np.isnan(side).any() for side in sides):
        raise InvalidInputError("A membership test needs scores that are numbers, found NaN among them.")
    return sides


def check_counts(members: int, nonmembers: int) -> None:
    """Raise `InvalidInputError` if a side is empty."""
    if not (members and nonmembers):
        raise InvalidInputError(
            f"A membership test needs members and non-members of the same classes, found {members} and "
            f"{nonmembers}. Give more unseen examples, or `nonmembers` like the forgotten ones."
        )
