"""The threshold attack: fitted on retained and unseen examples, aimed at the forgotten ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.curves import check_counts
from amnesty.evaluation.features import features
from amnesty.evaluation.intervals import difference_of_shares, normal_quantile
from amnesty.seeds import derive
from amnesty.tasks import Predictions

DRAWS = 20

Side = tuple[np.ndarray, np.ndarray]
"""Scores and labels of the same examples, shape [n] each."""


@dataclass(frozen=True)
class Advantage:
    """What a threshold attack gains over guessing; see `membership_advantage`.

    Attributes:
        value: ``member_rate - false_positive_rate``, from -1 to 1; 0 is ideal, above: memory is left, below: more
            was forgotten than never seeing teaches.
        low: lower end of the interval.
        high: upper end.
        member_rate: share of the forgotten examples that is called members, mean over the draws.
        false_positive_rate: share of the unseen ones that is.
        draws: how many splits the means are taken over.
    """

    value: float
    low: float
    high: float
    member_rate: float
    false_positive_rate: float
    draws: int

    def __float__(self) -> float:
        return self.value


def matched(labels: np.ndarray, pool: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Choose indices of ``pool`` (labels, shape [m]) with the class shares of ``labels``, as many as there are.

    Classes that the pool lacks are left out; the result is empty if it lacks all.
    """
    _, codes = np.unique(np.concatenate([labels, pool]), return_inverse=True)
    count = 1 + int(codes.max(initial=-1))
    wanted, members = np.bincount(codes[: len(labels)], minlength=count), _groups(codes[len(labels) :], count)
    return _choose(wanted, members, random)


def membership_advantage(
    forget: Side,
    retain: Side,
    unseen: Side,
    seed: int = 0,
    *,
    per_class: bool = False,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Advantage:
    """Return the share of forgotten minus the share of unseen examples that a threshold attack calls members.

    In each draw the unseen examples of each class are halved; the threshold that best tells retained from unseen
    examples of the first half (equally many, of the forgotten classes where both have them, else of all) is
    applied to the forgotten ones and to the second half, of equal class shares. A score of at least the threshold
    means member. Classes without unseen examples are left out.

    The interval reaches, on each side, as far as the wider of two: Newcombe's of the difference of the two mean
    rates, which holds the draw of the examples, with as many unseen ones as stand in one half; and the value plus or
    minus normal quantile times the standard deviation over the draws, which holds the choice of the split.

    Source: Song and Mittal, USENIX Security 2021, section 4, for thresholds by class. Differs from the code of
    several unlearning papers: as many classes as there are, and a class on which no threshold can be fitted, such
    as one forgotten altogether, gets the threshold of all classes, not 0, which calls every confidence a member.
    One sort of each score, then linear time in each draw.

    Args:
        forget: scores and labels of the forgotten examples, shape [n] each; higher scores: more like a member.
        retain: of the retained ones.
        unseen: of examples that were never trained on.
        seed: of the draws.
        per_class: one threshold for each class instead of one for all.
        draws: how many splits.
        level: of confidence.

    Raises:
        InvalidInputError: no unseen example of a forgotten class, or too few to fit a threshold on; scores
            that are NaN.
        ShapeError: scores and labels that do not go together.
    """
    _check([forget, retain, unseen], draws)
    sides = [
        (np.asarray(scores, dtype=np.float64), np.asarray(labels)) for scores, labels in (forget, retain, unseen)
    ]
    codes = _codes([labels for _, labels in sides])
    splits = _splits(codes, np.random.default_rng(derive(seed, "membership")), draws)
    return _Attack.on([scores for scores, _ in sides], codes, per_class).over(list(splits), level)


def membership_advantages(
    forget: Predictions,
    retain: Predictions,
    unseen: Predictions,
    *,
    seed: int,
    per_class: bool = False,
    draws: int = DRAWS,
    level: float = 0.95,
) -> dict[str, Advantage]:
    """Return `membership_advantage` of each of `amnesty.evaluation.features.FEATURES`, all on the same splits.

    Raises:
        InvalidInputError, ShapeError: as `membership_advantage` and `amnesty.evaluation.features.features`.
    """
    parts = forget, retain, unseen
    labels = [part.labels.numpy() for part in parts]
    scores = [features(part.logits, part.labels) for part in parts]
    _check(list(zip([s["margin"] for s in scores], labels, strict=True)), draws)
    codes = _codes(labels)
    splits = list(_splits(codes, np.random.default_rng(derive(seed, "membership")), draws))
    return {name: _Attack.on([s[name] for s in scores], codes, per_class).over(splits, level) for name in scores[0]}


@dataclass(frozen=True)
class _Split:
    """Indices of one draw: ``seen`` of the retained, ``fit`` and ``held`` of the unseen examples."""

    seen: np.ndarray
    fit: np.ndarray
    held: np.ndarray


def _splits(codes: list[np.ndarray], random: np.random.Generator, draws: int) -> Iterator[_Split]:
    count = 1 + int(max(map(np.max, codes)))
    forget, retain, unseen = (np.bincount(c, minlength=count) for c in codes)
    check_counts(int(forget[unseen > 0].sum()), len(codes[2]))
    common = (retain > 0) & (unseen > 1)  # a class with one unseen example has none in the first half
    like = np.where(common, forget if forget[common].any() else retain, 0)
    of_retain = _groups(codes[1], count)
    for _ in range(draws):
        fit, held = _halves(codes[2], random)
        held = held[_choose(forget, _groups(codes[2][held], count), random)]
        fit = fit[_choose(like, _groups(codes[2][fit], count), random)]
        seen = _choose(like, of_retain, random)
        size = min(len(fit), len(seen))
        check_counts(size, size)
        fit, seen = random.choice(fit, size, replace=False), random.choice(seen, size, replace=False)
        yield _Split(seen, fit, held)


def _choose(wanted: np.ndarray, members: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Choose of the members of each class a share of what is wanted of it, the same for all, as large as can be."""
    pairs = [(m, w) for m, w in zip(members, wanted.tolist(), strict=True) if w and len(m)]
    # In whole numbers: the class that has the fewest members, for its share, sets the size.
    least, share = min(((len(m), w) for m, w in pairs), key=lambda pair: pair[0] / pair[1], default=(0, 1))
    chosen = [random.choice(m, min(len(m), max(1, least * w // share)), replace=False) for m, w in pairs]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def _halves(codes: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Halve the examples of each class at random; the second half has one more where their number is odd."""
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    counts = np.bincount(codes)
    second = (np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)) % 2 == 0
    return order[~second], order[second]


@dataclass(frozen=True)
class _Attack:
    """Scores and classes of those forgotten examples that can be asked about and of the unseen ones.

    ``orders``: of the retained and unseen examples of all classes together, and then, where thresholds are wanted by
    class, of each class.
    """

    forget: np.ndarray
    forget_codes: np.ndarray
    unseen: np.ndarray
    unseen_codes: np.ndarray
    orders: list[_Order]

    @classmethod
    def on(cls, scores: list[np.ndarray], codes: list[np.ndarray], per_class: bool) -> _Attack:
        alike = [np.zeros_like(c) for c in codes]
        groupings = [alike, codes] if per_class else [alike]
        asked = np.isin(codes[0], codes[2])
        orders = [_Order.of(scores[1:], by[1:], 1 + int(max(map(np.max, by)))) for by in groupings]
        return cls(scores[0][asked], codes[0][asked], scores[2], codes[2], orders)

    def over(self, splits: list[_Split], level: float) -> Advantage:
        rates = np.array([self.rates(split) for split in splits])
        member_rate, false_positive_rate = map(float, rates.mean(axis=0))
        gains = rates[:, 0] - rates[:, 1]
        value, spread = float(np.mean(gains)), normal_quantile(level) * float(gains.std())
        counts = len(self.forget), len(splits[0].held)
        found = difference_of_shares(member_rate, false_positive_rate, *counts, level=level)
        low, high = max(-1.0, min(found.low, value - spread)), min(1.0, max(found.high, value + spread))
        return Advantage(value, low, high, member_rate, false_positive_rate, len(splits))

    def rates(self, split: _Split) -> tuple[float, float]:
        threshold = self.orders[0].thresholds(split.seen, split.fit)
        if len(self.orders) > 1:
            own = self.orders[1].thresholds(split.seen, split.fit)
            threshold = np.where(np.isnan(own), threshold, own)
        held, codes = self.unseen[split.held], self.unseen_codes[split.held]
        return _called(self.forget, self.forget_codes, threshold), _called(held, codes, threshold)


@dataclass(frozen=True)
class _Order:
    """Retained and unseen examples by group, then by descending score: one sort for all draws.

    ``steps`` are the distinct pairs of group and score, ``start`` the first step of each group and at last their
    number; ``retain`` and ``unseen`` tell each example its step.
    """

    steps: np.ndarray
    start: np.ndarray
    retain: np.ndarray
    unseen: np.ndarray

    @classmethod
    def of(cls, scores: list[np.ndarray], groups: list[np.ndarray], count: int) -> _Order:
        score, group = np.concatenate(scores), np.concatenate(groups)
        order = np.lexsort((-score, group))
        ordered, by = score[order], group[order]
        new = np.append(True, (ordered[1:] != ordered[:-1]) | (by[1:] != by[:-1]))
        step = np.empty(len(order), dtype=np.int64)
        step[order] = np.cumsum(new) - 1
        start = np.searchsorted(by[new], np.arange(count + 1))
        return cls(ordered[new], start, step[: len(scores[0])], step[len(scores[0]) :])

    def thresholds(self, seen: np.ndarray, fit: np.ndarray) -> np.ndarray:
        """Return each group's highest threshold of the highest balanced accuracy; NaN where a side has nobody.

        It is always the score of a retained example: only there does the accuracy rise.
        """
        count = len(self.steps)
        here, there = np.bincount(self.retain[seen], minlength=count), np.bincount(self.unseen[fit], minlength=count)
        found = np.full(len(self.start) - 1, np.nan)
        for group, part in enumerate(map(slice, self.start[:-1], self.start[1:])):
            drawn = np.flatnonzero(here[part])
            ours, theirs = np.cumsum(here[part][drawn]), np.cumsum(there[part])
            if len(drawn) and theirs[-1]:
                gain = ours / ours[-1] - theirs[drawn] / theirs[-1]
                found[group] = self.steps[part][drawn[np.argmax(gain)]]
        return found


def _called(scores: np.ndarray, codes: np.ndarray, threshold: np.ndarray) -> float:
    """Return the share that is called members by the one threshold, or by that of each class."""
    return float((scores >= (threshold[codes] if len(threshold) > 1 else threshold[0])).mean())


def _codes(labels: list[np.ndarray]) -> list[np.ndarray]:
    """Number the classes from 0, in their order."""
    classes, codes = np.unique(np.concatenate(labels), return_inverse=True)
    small = codes.astype(np.int16) if len(classes) < 2**15 else codes  # NumPy sorts these in linear time
    return np.split(small, np.cumsum([len(part) for part in labels])[:-1])


def _groups(codes: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the indices of each code from 0 to ``count - 1``, ascending."""
    order = np.argsort(codes.astype(np.int16) if count < 2**15 else codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1])


def _check(sides: list[Side], draws: int) -> None:
    if draws < 1:
        raise InvalidInputError(f"`draws` must be at least 1, found {draws}.")
    for name, (scores, labels) in zip(("forget", "retain", "unseen"), sides, strict=True):
        if np.ndim(scores) != 1 or np.shape(scores) != np.shape(labels):
            raise ShapeError(
                f"`{name}` must be scores and labels of one shape [n], found {np.shape(scores)} and "
                f"{np.shape(labels)}."
            )
        if np.isnan(scores).any():
            raise InvalidInputError("A membership test needs scores that are numbers, found NaN among them.")
    check_counts(min(len(sides[0][0]), len(sides[1][0])), len(sides[2][0]))
