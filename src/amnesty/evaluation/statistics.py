"""What can be claimed from a handful of seeds: means with intervals, paired comparison, equivalence.

The unit is the seed, a whole run, not the example: ten thousand test images seen by one model are one observation of
the method. Units of the results are those of the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.pairs import (
    checked_level,
    one_per_seed,
    paired_differences,
    seeds_in_words,
    seeds_needed,
    sign_flip_p,
    smallest_p,
)


@dataclass(frozen=True)
class Summary:
    """A measure over seeds.

    Attributes:
        mean: over the seeds.
        deviation: sample standard deviation, with n - 1; ``None`` for a single seed.
        low: lower end of the Student t interval of the mean; ``None`` for a single seed.
        high: its upper end.
        count: number of seeds, n.
        level: of the interval.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    count: int
    level: float = 0.95

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.4g}, {seeds_in_words(self.count)}, no interval"
        # Two digits of the deviation; more of the mean would be noise.
        digits = min(max(1 - math.floor(math.log10(self.deviation)), 0), 12) if self.deviation > 0 else 4
        mean, spread, low, high = (f"{x:.{digits}f}" for x in (self.mean, self.deviation, self.low, self.high))
        return f"{mean} ± {spread} [{low}, {high}], {seeds_in_words(self.count)}"


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same seeds; see `compare`.

    Attributes:
        difference: mean of ``first - second`` over the seeds.
        low: lower end of its Student t interval; ``None`` for a single seed.
        high: its upper end.
        p_value: of the sign-flip test, two-sided.
        smallest_p: the smallest p that so many seeds can reach, however large the difference.
        effect: mean over standard deviation of the differences; ``None`` where that is not defined.
        count: number of seeds.
        level: of the interval; ``1 - level`` is the threshold of the test.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float
    smallest_p: float
    effect: float | None
    count: int
    level: float

    @property
    def significant(self) -> bool:
        """Whether the sign-flip test shows a difference at ``level``."""
        return self.p_value <= 1 - self.level

    @property
    def statement(self) -> str:
        """What may be claimed, in one sentence, and on how many seeds the claim rests."""
        if self.smallest_p > 1 - self.level:
            return (
                f"{seeds_in_words(self.count)} cannot show a difference at level {self.level:g}: the smallest "
                f"reachable p is {self.smallest_p:.3g}; {seeds_needed(1 - self.level)} seeds could."
            )
        found = f"{self.difference:.3g} [{self.low:.3g}, {self.high:.3g}], sign-flip p = {self.p_value:.2g}"
        side = "higher" if self.difference > 0 else "lower"
        claim = f"the first is {side} than the second" if self.significant else "no difference is shown"
        return f"On {seeds_in_words(self.count)} {claim}: {found}."


@dataclass(frozen=True)
class Equivalence:
    """Whether an unlearned model is as good as a retrained one, up to a margin; see `equivalent`.

    Attributes:
        difference: mean of ``unlearned - reference`` over the seeds.
        low: lower end of its Student t interval.
        high: its upper end.
        margin: the largest difference that counts as none.
        p_value: the larger one of the two one-sided t tests.
        count: number of seeds.
        level: of the interval; each one-sided test has the threshold ``(1 - level) / 2``.
    """

    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    count: int
    level: float

    @property
    def shown(self) -> bool:
        """Whether the whole interval lies strictly within ``-margin`` and ``margin``."""
        return -self.margin < self.low and self.high < self.margin

    @property
    def statement(self) -> str:
        """What may be claimed, in one sentence, and on how many seeds the claim rests."""
        found = f"{self.difference:.3g} [{self.low:.3g}, {self.high:.3g}] against a margin of {self.margin:.3g}"
        seeds = f"{seeds_in_words(self.count)} at level {self.level:g}"
        if self.shown:
            return f"On {seeds} the two are equivalent: {found}."
        if self.low > self.margin or self.high < -self.margin:
            return f"On {seeds} the two differ by more than the margin: {found}."
        if (self.high - self.low) / 2 >= self.margin:
            return f"{seeds} cannot show equivalence, as the interval is wider than the margins: {found}."
        return f"On {seeds} equivalence is not shown: {found}."


def summarise(values: Sequence[float] | np.ndarray, *, level: float = 0.95) -> Summary:
    """Summarise one measure over seeds by mean, deviation and the interval ``mean ± t s / sqrt(n)``.

    t is the quantile of Student's law with n - 1 degrees of freedom; the interval takes the values of the seeds as
    normal and independent. Seeds that vary only the initialisation say nothing of other draws of the forget set.

    Args:
        values: one number per seed, shape [n].
        level: of the interval, in (0, 1).

    Raises:
        InvalidInputError: no value, a value that is not finite, or another shape.

    Example:
        >>> print(summarise([1.3, 1.86, 2.09]))
        1.75 ± 0.41 [0.74, 2.76], 3 seeds
        >>> print(summarise([1.3]))
        1.3, 1 seed, no interval
    """
    from scipy.special import stdtrit

    numbers, level = one_per_seed("values", values), checked_level(level)
    count = len(numbers)
    # Equal values must not get a deviation from the rounding of their mean.
    mean = float(numbers[0] if np.ptp(numbers) == 0 else numbers.mean())
    if count == 1:
        return Summary(mean, None, None, None, count, level)
    deviation = float(np.sqrt(np.square(numbers - mean).sum() / (count - 1)))
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * deviation / math.sqrt(count)
    return Summary(mean, deviation, mean - half, mean + half, count, level)


def compare(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, *, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare two methods that ran on the same seeds, by the differences of their pairs.

    The p-value is that of the exact sign-flip permutation test: if the methods do not differ, each difference is as
    likely with the other sign, so p is the share of the 2^n assignments of signs whose mean is at least as far from
    0. It needs no normal law, but n seeds cannot reach a smaller p than ``2 / 2^n``: 0.0625 for 5 seeds, 0.031 for
    6. ``statement`` says so. The interval is Student's t. ``effect`` is the standardised mean difference of pairs;
    with few seeds it comes out too large, by a factor of about ``1 / (1 - 3 / (4 n - 5))``.

    Args:
        first: one value per seed, shape [n].
        second: of the other method, on the same seeds in the same order.
        level: of the interval and the claim.
        seed: of the random signs, used with more than 16 pairs.

    Raises:
        InvalidInputError: sides of different lengths, empty or not finite.

    Example:
        >>> found = compare([0.91, 0.94, 0.93], [0.90, 0.91, 0.91])
        >>> found.p_value
        0.25
        >>> found.statement
        '3 seeds cannot show a difference at level 0.95: the smallest reachable p is 0.25; 6 seeds could.'
    """
    differences = paired_differences(("first", "second"), first, second)
    found = summarise(differences, level=level)
    p_value = sign_flip_p(differences, seed=seed)
    effect = found.mean / found.deviation if found.deviation else None
    return Comparison(found.mean, found.low, found.high, p_value, smallest_p(found.count), effect, found.count, level)


def equivalent(
    unlearned: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    *,
    margin: float,
    level: float = 0.9,
) -> Equivalence:
    """Test the claim "like retraining": do the two differ by less than ``margin``, on the seeds as pairs?

    Two one-sided t tests (TOST), each at ``(1 - level) / 2``: equivalence is shown if the t interval of the mean
    difference lies within the margin. A large p of a test for a *difference* shows nothing of the kind. Fix the
    margin before looking, for instance by `margin_of`.

    Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987.

    Args:
        unlearned: one value per seed, shape [n].
        reference: of the retrained models, on the same seeds in the same order.
        margin: the largest difference that counts as none, above 0, in the unit of the values.
        level: of the interval; 0.9 makes each test one at 0.05.

    Raises:
        MissingReferenceError: no reference.
        InvalidInputError: a margin that is not positive, fewer than two seeds, sides of different lengths.
    """
    from scipy.special import stdtr

    _need_reference("reference", reference)
    if not (math.isfinite(margin) and margin > 0):
        raise InvalidInputError(f"`margin` must be positive and finite, found {margin}; see `margin_of`.")
    differences = paired_differences(("unlearned", "reference"), unlearned, reference)
    found = summarise(differences, level=level)
    if found.deviation is None or found.low is None or found.high is None:
        raise InvalidInputError("An equivalence test needs at least two seeds, found one; it has no spread.")
    error = found.deviation / math.sqrt(found.count)
    distance = margin - abs(found.mean)
    p_value = float(stdtr(found.count - 1, -distance / error) if error > 0 else distance <= 0)
    return Equivalence(found.mean, found.low, found.high, margin, p_value, found.count, level)


def margin_of(
    references: Sequence[float] | np.ndarray, second_references: Sequence[float] | np.ndarray, *, share: float = 0.95
) -> float:
    """Return a margin for `equivalent`: the 95th percentile of ``|difference|`` of two retrained models.

    What retraining with another seed changes anyway counts as no difference. The percentile is interpolated; with
    fewer than 20 pairs it lies between the two largest differences, and is noisy. Pairs that served for the
    margin should not serve for the test.

    Args:
        references: one value per seed, shape [n].
        second_references: of models retrained on the same data with another seed, in the same order.
        share: of the differences that shall lie within the margin, in (0, 1).

    Raises:
        MissingReferenceError: one of the two is missing.
        InvalidInputError: fewer than two pairs, different lengths, or no difference at all.
    """
    for name, values in (("references", references), ("second_references", second_references)):
        _need_reference(name, values)
    sizes = np.abs(paired_differences(("references", "second_references"), references, second_references))
    if len(sizes) < 2:
        raise InvalidInputError("A margin needs at least two pairs of retrained models, found one.")
    margin = float(np.quantile(sizes, checked_level(share)))
    if margin == 0:
        raise InvalidInputError(
            "The retrained models do not differ, so the margin would be 0; pass other runs, or fix one of your own."
        )
    return margin


def _need_reference(name: str, values: Sequence[float] | np.ndarray | None) -> None:
    if values is None or not np.size(values):
        raise MissingReferenceError(f"`{name}` is missing: pass the values of retrained models, one per seed.")
