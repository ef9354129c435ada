"""Which shadow model learns what: halves of a pool in complementary pairs, and what each must forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.seeds import derive


@dataclass(frozen=True)
class Design:
    """Who was trained on what; M models, n examples.

    Attributes:
        targets: indices of the examples that are forgotten by every model that learnt them, ascending, shape [t].
        trained: what each original learnt, bool, shape [M, n].
        forgotten: what each unlearned model learnt and forgot, bool, shape [M, n]: ``trained`` at the targets.
        groups: number of each model's pair, shape [M]; the unit that cross-fitting leaves out as a whole.
    """

    targets: np.ndarray
    trained: np.ndarray
    forgotten: np.ndarray
    groups: np.ndarray

    @property
    def retained(self) -> np.ndarray:
        """What each unlearned model learnt and keeps, and each retrained one learnt, bool, shape [M, n]."""
        kept: np.ndarray = self.trained & ~self.forgotten
        return kept


def halves(labels: np.ndarray, targets: Sequence[int] | np.ndarray, shadows: int = 64, seed: int = 0) -> Design:
    """Divide a pool into halves, ``shadows / 2`` times; models 2k and 2k + 1 learn the two halves of division k.

    So every example is learnt by exactly half of the models. In each division the pool, the targets, and within each
    class the targets and the others are halved as equally as their number allows, and every example is in either
    half with probability 1/2.

    Args:
        labels: class numbers, shape [n].
        targets: distinct indices of the examples to forget, at least two and not all.
        shadows: number of models M, even and at least 4: two pairs, so that one can be left out.
        seed: of the divisions.

    Raises:
        InvalidInputError: one of these is not so, or a class has an example that only one half of the pool could
            learn (or keep), so that the other half would not know the class.

    Example:
        >>> design = halves(np.arange(40) % 4, targets=range(8), shadows=4)
        >>> design.trained.sum(axis=1), design.forgotten.sum(axis=1), design.groups
        (array([20, 20, 20, 20]), array([4, 4, 4, 4]), array([0, 0, 1, 1]))
    """
    _check_count(shadows)
    labels = np.asarray(labels)
    chosen = _check_targets(targets, len(labels))
    is_target = np.zeros(len(labels), bool)
    is_target[chosen] = True
    _check_classes(labels, is_target)
    first = np.stack([_half(labels, is_target, derive(seed, "half", k)) for k in range(shadows // 2)])
    trained = np.stack([first, ~first], axis=1).reshape(shadows, -1)
    return Design(chosen, trained, trained & is_target, np.arange(shadows) // 2)


def _half(labels: np.ndarray, is_target: np.ndarray, seed: int) -> np.ndarray:
    """Return one half of the pool, bool, shape [n].

    Examples stand in a row, targets first, those of a class side by side, classes and examples in a random order;
    every other one is taken. Any run of neighbours is then halved up to one example.
    """
    random = np.random.default_rng(seed)
    _, numbers = np.unique(labels, return_inverse=True)
    rank = random.permutation(numbers.max() + 1)[numbers]
    row = np.lexsort((random.permutation(len(labels)), rank, ~is_target))
    half = np.zeros(len(labels), bool)
    half[row[random.integers(2) :: 2]] = True
    return half


def _check_count(shadows: int) -> None:
    if isinstance(shadows, bool) or not isinstance(shadows, int) or shadows < 4 or shadows % 2:
        raise InvalidInputError(
            f"`shadows` must be an even whole number of at least 4, found {shadows!r}: models come in pairs of "
            "complementary halves, and one pair is left out at a time."
        )


def _check_targets(targets: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(targets)
    if found.ndim != 1 or not len(found) or not np.issubdtype(found.dtype, np.integer):
        raise InvalidInputError(
            f"`targets` must be indices of the examples to forget, found {found.dtype} of shape {list(found.shape)}."
        )
    chosen = np.unique(found)
    if chosen[0] < 0 or chosen[-1] >= count:
        raise InvalidInputError(f"`targets` must be in [0, {count}), found {chosen[0]} to {chosen[-1]}.")
    if len(chosen) < len(found):
        raise InvalidInputError(f"`targets` names {len(found) - len(chosen)} examples more than once.")
    if not 2 <= len(chosen) <= count - 2:
        raise InvalidInputError(
            f"`targets` must be at least two of the {count} examples and leave at least two, found {len(chosen)}: "
            "both halves need something to forget and something to keep."
        )
    return chosen.astype(np.int64)


def _check_classes(labels: np.ndarray, is_target: np.ndarray) -> None:
    classes, numbers = np.unique(labels, return_inverse=True)
    size = np.bincount(numbers)
    kept = np.bincount(numbers[~is_target], minlength=len(classes))
    lone = (size == 1) | (kept == 1)
    if lone.any():
        k = int(np.flatnonzero(lone)[0])
        raise InvalidInputError(
            f"Class {classes[k]} has {size[k]} examples, of which {kept[k]} are no targets: one half of the pool "
            "would keep the class and the other would not. Leave at least two examples beside the targets, or none."
        )
