"""Do the losses on the forgotten examples spread like those on unseen ones, and would one see it if not?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.kolmogorov import Pair, critical_distance, p_value
from amnesty.seeds import derive

MIN_EXAMPLES = 8
QUANTILES = (0.05, 0.5, 0.95)
WANTED_POWER = 0.8
Z_OF_WANTED = 0.8416212335729143  # the 80 % quantile of the normal law


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How far the forgotten examples' margins are from those of unseen ones; see `likeness`.

    Attributes:
        distance: Kolmogorov-Smirnov distance of the two samples, in [0, 1]; 0: alike.
        low: of the interval of the distance between what the samples are drawn from.
        high: likewise.
        p_value: two-sided, of the samples being alike.
        wasserstein: mean distance between margins of equal rank, nats.
        low_quantile_gap: forgotten minus unseen margin at the 5 % quantile, nats; positive: better remembered.
        median_gap: at the median.
        high_quantile_gap: at the 95 % quantile.
        power: the chance that the test rejects if the forgotten are still as in the original model; ``None``
            where that was not given.
        detectable: the distance that the test finds with a chance of about 80 %, wherever the samples differ.
        level: of the interval; the test rejects at ``1 - level``.
        forget_count: forgotten examples.
        unseen_count: unseen examples.
    """

    distance: float
    low: float
    high: float
    p_value: float
    wasserstein: float
    low_quantile_gap: float
    median_gap: float
    high_quantile_gap: float
    power: float | None
    detectable: float
    level: float
    forget_count: int
    unseen_count: int

    @property
    def differs(self) -> bool:
        """Say whether the test tells the forgotten from the unseen."""
        return self.p_value <= 1 - self.level + 1e-12

    @property
    def conclusive(self) -> bool:
        """Say whether "no difference" would mean something: the power is known and at least 0.8."""
        return self.power is not None and self.power >= WANTED_POWER


def likeness(
    forget: np.ndarray,
    unseen: np.ndarray,
    *,
    original: tuple[np.ndarray, np.ndarray] | None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Likeness:
    """Compare the margins of forgotten examples with those of unseen ones of the same classes.

    For a retrained model the two are alike, if the forget set was drawn at random (or the unseen examples like
    it). The Kolmogorov-Smirnov test asks whether they differ anywhere, in either direction: examples that are worse
    known than unseen ones stand out too. Losses order examples as margins do, so that distance, interval, p-value
    and power are those of the losses as well; Wasserstein distance and gaps are in nats of margin.

    **Read the power before the p-value.** With few examples, or where the original knows the forgotten hardly
    better than the unseen, no test could reject, and "no difference" shows nothing. The power is the share of
    ``draws`` in which the test rejects, given as many examples drawn, with replacement, from the original's margins.
    Where those are few and alike themselves it comes out too high, around 0.3 instead of ``1 - level``, since what
    they differ by chance is taken for real; it then still stays below the 0.8 that `Likeness.conclusive` wants.

    The interval holds the distance between the two laws with a chance of at least about ``level``: the distance
    plus and minus what the whole difference of the distribution functions moves under the bootstrap. It begins at 0
    about where the test does not reject. The percentiles of bootstrapped distances would not do: resampling adds
    to a small distance, so that they never reach 0.

    Args:
        forget: margins of the forgotten examples under the unlearned model, shape [n], nats; see
            `amnesty.evaluation.margins`.
        unseen: margins of unseen examples of the same classes, shape [m].
        original: both under the original model, for the power; other numbers of examples are fine. ``None``: no
            power is computed.
        level: of the interval and, as ``1 - level``, of the test.
        draws: resamples, at least 100.
        seed: of the resamples. The order of the examples does not matter.

    Raises:
        ShapeError: a sample is not one-dimensional.
        InvalidInputError: fewer than eight examples a side, margins that are not finite or all equal, a level
            out of (0, 1) or so high that no distance is significant with so few examples.

    Source: Kolmogorov-Smirnov as in the forget quality of Maini et al. (TOFU, 2024), with distance, interval and
    power beside its p-value, which is no measure of likeness. ``detectable`` follows from the normal law of the gap
    where it is largest, at the middle of both samples: it holds for a difference at one point only. One spread out,
    such as a shift of a normal law, is found at that distance with a chance of about 97 %.

    >>> random = np.random.default_rng(0)
    >>> seen, unseen = random.normal(9, 2, 200), random.normal(4, 2, 300)
    >>> found = likeness(random.normal(4, 2, 200), unseen, original=(seen, unseen))
    >>> found.differs, found.power
    (False, 1.0)
    """
    first, second = _checked("forget", forget), _checked("unseen", unseen)
    _check_settings(level, draws)
    if np.ptp(np.concatenate([first, second])) == 0:
        raise InvalidInputError("All margins are equal: the model answers everything alike, which tells nothing.")
    sizes = len(first), len(second)
    critical = critical_distance(1 - level, *sizes)
    if math.isinf(critical):
        raise InvalidInputError(
            f"With {sizes[0]} and {sizes[1]} examples no distance is significant at a level of {level}. Give more "
            "examples or a lower `level`."
        )
    from scipy.stats import wasserstein_distance

    pair = Pair.of(first, second)
    distance = float(np.abs(pair.observed()).max())
    spread = _spread(pair, level, draws, seed)
    gaps = np.quantile(first, QUANTILES) - np.quantile(second, QUANTILES)
    return Likeness(
        distance=distance,
        low=max(0.0, distance - spread),
        high=min(1.0, distance + spread),
        p_value=p_value(distance, *sizes),
        wasserstein=float(wasserstein_distance(first, second)),
        low_quantile_gap=float(gaps[0]),
        median_gap=float(gaps[1]),
        high_quantile_gap=float(gaps[2]),
        power=None if original is None else _power(original, sizes, critical, draws, seed),
        detectable=_detectable(critical, *sizes),
        level=level,
        forget_count=sizes[0],
        unseen_count=sizes[1],
    )


def _spread(pair: Pair, level: float, draws: int, seed: int) -> float:
    """Return what the difference of the distribution functions moves under resampling, with chance ``level``."""
    random = np.random.default_rng(derive(seed, "likeness interval"))
    return float(np.quantile(pair.resampled(pair.sizes, draws, random, centre=pair.observed()), level))


def _power(
    original: tuple[np.ndarray, np.ndarray], sizes: tuple[int, int], critical: float, draws: int, seed: int
) -> float:
    pair = Pair.of(_checked("original forget", original[0]), _checked("original unseen", original[1]))
    random = np.random.default_rng(derive(seed, "likeness power"))
    return float((pair.resampled(sizes, draws, random) >= critical - 1e-9).mean())


def _detectable(critical: float, n: int, m: int) -> float:
    """Return the d at which the gap where it is largest, of mean d, exceeds ``critical`` with a chance of 80 %.

    ``d = critical + z sqrt((1 - d^2) / 4 (1 / n + 1 / m))``: the distribution functions are ``(1 +- d) / 2`` there.
    """
    spread = Z_OF_WANTED**2 * (1 / n + 1 / m) / 4
    return (critical + math.sqrt(spread * (1 + spread - critical**2))) / (1 + spread)


def _checked(name: str, margins: np.ndarray) -> np.ndarray:
    values = np.asarray(margins, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"The {name} margins must have shape [n], found {list(values.shape)}.")
    if len(values) < MIN_EXAMPLES:
        raise InvalidInputError(
            f"Comparing distributions needs at least {MIN_EXAMPLES} examples a side, found {len(values)} {name} ones."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(f"The {name} margins must be finite, found NaN or infinity among them.")
    return values


def _check_settings(level: float, draws: int) -> None:
    if not 0 < level < 1 or draws < 100:
        raise InvalidInputError(f"`level` must be in (0, 1) and `draws` at least 100, found {level} and {draws}.")
