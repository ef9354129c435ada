"""Learning rates that change from pass to pass."""

from __future__ import annotations

from collections.abc import Sequence

from amnesty.training.schedules import Factor


def by_epoch(factors: Sequence[float]) -> Factor:
    """Return the schedule with one factor on the learning rate for each pass of the run.

    >>> schedule = by_epoch([1.0, 0.5])
    >>> [schedule(k, 4) for k in range(4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    return lambda step, steps: factors[min(step * len(factors) // max(steps, 1), len(factors) - 1)]


def milestones(epochs: int, percent: Sequence[int] = (50, 80, 90)) -> list[float]:
    """Return factors that fall to a tenth once so many percent of the passes, rounded up, are over.

    >>> milestones(1), milestones(2)
    ([1.0], [1.0, 0.1])
    """
    return [0.1 ** sum(epoch >= -(-epochs * p // 100) for p in percent) for epoch in range(epochs)]


def up_and_down(epochs: int) -> list[float]:
    """Return factors that rise to 1 over the first ``(epochs + 1) // 2`` passes and then fall towards 0.

    >>> up_and_down(4)
    [0.5, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    peak = (epochs + 1) // 2
    return [min(epoch / peak, (epochs + 1 - epoch) / (epochs + 1 - peak)) for epoch in range(1, epochs + 1)]
