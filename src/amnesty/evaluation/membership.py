"""Can one tell, from the model's answers, what was forgotten from what was never seen?

Pure functions of arrays: scores of single examples in, rates out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amnesty.errors import InvalidInputError
from amnesty.seeds import derive
from amnesty.tasks.margins import margins as _margins

DRAWS = 20


class Scan(NamedTuple):
    """The best threshold: call a score of at least ``threshold`` a member; ``accuracy`` is balanced."""

    threshold: float
    accuracy: float


def margins(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return the log-odds of each label, shape [n], float64; see `amnesty.tasks.margins.margins`."""
    return _margins(logits.to(torch.float64), labels).numpy()


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Return the chance that a member scores above a non-member, ties counting half; in [0, 1].

    0.5: the two cannot be told apart. One sort. Raises `InvalidInputError` if a side is empty or holds NaN.
    """
    _check(members, nonmembers)
    _, rank, counts = np.unique(np.concatenate([members, nonmembers]), return_inverse=True, return_counts=True)
    mid = np.cumsum(counts) - (counts - 1) / 2
    ranks = mid[rank[: len(members)]].sum()
    n, m = len(members), len(nonmembers)
    return float((ranks - n * (n + 1) / 2) / (n * m))


def threshold_scan(members: np.ndarray, nonmembers: np.ndarray) -> Scan:
    """Find the threshold of the highest balanced accuracy, ``(TPR + TNR) / 2``, with one sort.

    Raises `InvalidInputError` if a side is empty or holds NaN.
    """
    _check(members, nonmembers)
    scores = np.concatenate([members, nonmembers])
    order = np.argsort(-scores, kind="stable")
    is_member = (order < len(members)).astype(np.float64)
    called = np.cumsum(is_member) / len(members) - np.cumsum(1 - is_member) / len(nonmembers)
    ordered = scores[order]
    last_of_tie = np.append(ordered[1:] != ordered[:-1], True)
    best = int(np.argmax(np.where(last_of_tie, called, -np.inf)))
    return Scan(float(ordered[best]), float(0.5 + 0.5 * called[best]))


def matched(labels: np.ndarray, pool: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Choose indices of ``pool`` (labels, shape [m]) with the class shares of ``labels``, as many as there are.

    Classes that the pool lacks are left out; the result is empty if it lacks all.
    """
    classes, wanted = np.unique(labels, return_counts=True)
    members = [np.flatnonzero(pool == c) for c in classes]
    # In whole numbers: the class that the pool has least of, for its share, sets the size.
    pairs = [(len(m), int(w)) for m, w in zip(members, wanted, strict=True) if len(m)]
    least, share = min(pairs, key=lambda pair: pair[0] / pair[1], default=(0, 1))
    takes = [min(len(m), max(1, least * int(w) // share)) for m, w in zip(members, wanted, strict=True)]
    chosen = [random.choice(m, take, replace=False) for m, take in zip(members, takes, strict=True) if take]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def membership_advantage(
    forget: tuple[np.ndarray, np.ndarray],
    retain: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    seed: int = 0,
) -> float:
    """Return the share of forgotten minus the share of unseen examples that a threshold attack calls members.

    In each of 20 draws the unseen examples of each class are halved; the threshold that best tells retained
    from unseen examples of the first half (equally many, of the forgotten classes where both have them, else of
    all) is applied to the forgotten ones and to the second half, of equal class shares. 0 is ideal: forgotten
    looks unseen. Above 0 memory is left; below 0 more was forgotten than never seeing teaches.

    Args:
        forget: scores and labels of the forgotten examples, shape [n] each.
        retain: of the retained ones.
        unseen: of examples that were never trained on.
        seed: of the draws.

    Raises:
        InvalidInputError: no unseen example of a forgotten class, or too few to fit a threshold on; scores
            that are NaN.
    """
    random = np.random.default_rng(derive(seed, "membership"))
    return float(np.mean([_draw(forget, retain, unseen, random) for _ in range(DRAWS)]))


def _draw(
    forget: tuple[np.ndarray, np.ndarray],
    retain: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
) -> float:
    fit, held = _halves(unseen[1], random)
    asked = np.isin(forget[1], unseen[1][held])
    held = held[matched(forget[1], unseen[1][held], random)]
    _check(forget[0][asked], unseen[0][held])
    common = np.intersect1d(retain[1], unseen[1][fit])
    like = forget[1] if np.isin(forget[1], common).any() else retain[1]
    like = like[np.isin(like, common)]
    fit = fit[matched(like, unseen[1][fit], random)]
    seen = matched(like, retain[1], random)
    size = min(len(fit), len(seen))
    fit, seen = random.choice(fit, size, replace=False), random.choice(seen, size, replace=False)
    threshold = threshold_scan(retain[0][seen], unseen[0][fit]).threshold
    return float((forget[0][asked] >= threshold).mean() - (unseen[0][held] >= threshold).mean())


def _halves(labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Halve the examples of each class at random; the second half has one more where their number is odd."""
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.unique(labels[order], return_index=True, return_counts=True)[1:]
    second = (np.arange(len(order)) - np.repeat(*starts)) % 2 == 0
    return order[~second], order[second]


def _check(members: np.ndarray, nonmembers: np.ndarray) -> None:
    if len(members) == 0 or len(nonmembers) == 0:
        raise InvalidInputError(
            f"A membership test needs members and non-members of the same classes, found {len(members)} and "
            f"{len(nonmembers)}. Give more unseen examples, or `nonmembers` like the forgotten ones."
        )
    if np.isnan(members).any() or np.isnan(nonmembers).any():
        raise InvalidInputError("A membership test needs scores that are numbers, found NaN among them.")
