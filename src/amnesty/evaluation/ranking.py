"""Which method is better, over many seeds, forget sets and data sets, and which cannot be told apart?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.pairs import (
    checked_level,
    one_per_seed,
    paired_differences,
    seeds_needed,
    sign_flip_p,
    smallest_p,
)
from amnesty.seeds import derive

DRAWS = 2000
"""Resamples of the blocks behind each interval."""


@dataclass(frozen=True)
class Ranking:
    """Methods in the order of their mean ranks; see `rank`. What needs two blocks is ``None`` with one.

    Attributes:
        mean_ranks: from 1, best, to the number of methods; best first.
        intervals: bootstrap interval of each mean rank.
        p_value: of the hypothesis that no method differs: Friedman's, or the sign-flip test's for two methods.
        pairwise: Holm-corrected p of each pair, sign-flip test; the better ranked method stands first.
        critical_difference: of two mean ranks, after Nemenyi: a second, coarser way to separate methods.
        groups: the largest sets of methods of which no pair is separated, best first. They may overlap.
        blocks: number of blocks.
        level: of the intervals; ``1 - level`` is the threshold of the tests.
    """

    mean_ranks: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] | None
    p_value: float | None
    pairwise: Mapping[tuple[str, str], float] | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    blocks: int
    level: float

    @property
    def statement(self) -> str:
        """What may be claimed, in one sentence, and on how many blocks the claim rests."""
        order = ", ".join(f"{method} {value:.3g}" for method, value in self.mean_ranks.items())
        if self.p_value is None:
            return f"1 block: mean ranks only ({order}), from which no order of the methods can be claimed."
        pairs = math.comb(len(self.mean_ranks), 2)
        reachable = min(1.0, pairs * smallest_p(self.blocks))
        if reachable > 1 - self.level:
            return (
                f"{self.blocks} blocks cannot separate {len(self.mean_ranks)} methods at level {self.level:g}: the "
                f"smallest reachable corrected p is {reachable:.3g}; "
                f"{seeds_needed((1 - self.level) / pairs)} blocks could (mean ranks: {order})."
            )
        ties = "; ".join(" = ".join(group) for group in self.groups)
        return (
            f"On {self.blocks} blocks at level {self.level:g}, methods that are not separated: {ties} "
            f"(mean ranks: {order}; p of no difference at all {self.p_value:.2g})."
        )


def rank(
    table: Mapping[str, Sequence[float] | np.ndarray], *, level: float = 0.95, seed: int = 0, draws: int = DRAWS
) -> Ranking:
    """Rank methods that ran on the same blocks, and say which of them are statistically tied.

    Within each block the lowest value gets rank 1, ties the mean of their ranks. Intervals of the mean ranks come
    from resampling whole blocks; with fewer than about 10 they are too narrow. All methods together: Friedman's test
    on the ranks (chi-squared, conservative for few blocks). Each pair: the sign-flip test of `compare` on the
    differences of the values, corrected after Holm, which by itself holds the chance of any false separation to
    ``1 - level``. The critical difference is that of `nemenyi`.

    A block is one data set, forget set and seed. Seeds of one data set are blocks for claims about that data set;
    they are no independent data sets. For a measure whose ideal is the retrained model, pass
    ``|gap to the reference|``.

    Source: Demšar, Statistical comparisons of classifiers, JMLR 7, 2006; with sign flips in place of Wilcoxon's test.

    Args:
        table: for each method one value per block, shape [N], lower is better, all in the same order of blocks.
        level: of the intervals and the tests.
        seed: of the resampling.
        draws: number of resamples.

    Raises:
        InvalidInputError: fewer than two methods, unequal numbers of blocks, or a value that is not finite.

    Example:
        >>> found = rank({"slow": [3.0, 4.0, 3.0], "good": [1.0, 1.5, 1.0], "same": [1.0, 2.0, 1.0]})
        >>> {method: round(value, 2) for method, value in found.mean_ranks.items()}
        {'good': 1.33, 'same': 1.67, 'slow': 3.0}
        >>> found.groups
        (('good', 'same', 'slow'),)
        >>> found.statement
        '3 blocks cannot separate 3 methods at level 0.95: the smallest reachable corrected p is 0.75; 7 blocks ...'
    """
    from scipy.stats import rankdata

    level = checked_level(level)
    values = _checked(table)
    ranks = rankdata(list(values.values()), axis=0)  # [methods, blocks]
    best_first = np.argsort(ranks.mean(axis=1), kind="stable")
    methods, ranks = [list(values)[i] for i in best_first], ranks[best_first]
    means = dict(zip(methods, ranks.mean(axis=1).tolist(), strict=True))
    blocks = ranks.shape[1]
    if blocks < 2:
        return Ranking(means, None, None, None, None, (tuple(methods),), blocks, level)
    pairwise = _pairwise({method: values[method] for method in methods}, seed)
    return Ranking(
        means,
        dict(zip(methods, _intervals(ranks, level, draws, seed), strict=True)),
        next(iter(pairwise.values())) if len(methods) == 2 else _friedman(ranks),
        pairwise,
        nemenyi(len(methods), blocks, level=level),
        tied(methods, {pair for pair, p_value in pairwise.items() if p_value <= 1 - level}),
        blocks,
        level,
    )


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values, shape [m], corrected for m tests after Holm (1979): in rising order ``(m - i) p_i``, i from 0.

    >>> holm([0.25, 0.125, 0.5]).tolist()
    [0.5, 0.375, 0.5]
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return corrected


def nemenyi(methods: int, blocks: int, *, level: float = 0.95) -> float:
    """Return the critical difference of mean ranks, ``q sqrt(k (k + 1) / (6 N))``, for k methods on N blocks.

    q is the quantile of the studentized range with infinitely many degrees of freedom, over the root of 2.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(level, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def _checked(table: Mapping[str, Sequence[float] | np.ndarray]) -> dict[str, np.ndarray]:
    if len(table) < 2:
        raise InvalidInputError(f"A ranking needs at least two methods, found {list(table)}.")
    values = {method: one_per_seed(method, row) for method, row in table.items()}
    counts = {method: len(row) for method, row in values.items()}
    if len(set(counts.values())) > 1:
        raise InvalidInputError(
            f"All methods must have a value for each block, in the same order, but have {counts}."
        )
    return values


def _intervals(ranks: np.ndarray, level: float, draws: int, seed: int) -> list[tuple[float, float]]:
    blocks = ranks.shape[1]
    random = np.random.default_rng(derive(seed, "blocks"))
    chosen = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws)  # [draws, blocks]
    means = chosen @ ranks.T / blocks  # [draws, methods]
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _friedman(ranks: np.ndarray) -> float:
    from scipy.stats import friedmanchisquare

    if (np.ptp(ranks, axis=0) == 0).all():
        return 1.0  # every block is one tie: its statistic would be 0 / 0
    return float(friedmanchisquare(*ranks).pvalue)


def _pairwise(values: Mapping[str, np.ndarray], seed: int) -> dict[tuple[str, str], float]:
    pairs = list(itertools.combinations(values, 2))
    raw = [sign_flip_p(paired_differences(pair, values[pair[0]], values[pair[1]]), seed=seed) for pair in pairs]
    return dict(zip(pairs, holm(raw).tolist(), strict=True))


def tied(methods: Sequence[str], separated: set[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return the maximal sets without a separated pair, adding one method at a time; pairs are in order."""
    groups: list[tuple[str, ...]] = [()]
    for method in methods:
        joined = [tuple(m for m in group if (m, method) not in separated) for group in groups]
        every = {*groups, *((*group, method) for group in joined)}
        groups = [group for group in every if not any(set(group) < set(other) for other in every)]
    place = {method: i for i, method in enumerate(methods)}
    return tuple(sorted(groups, key=lambda group: [place[m] for m in group]))
