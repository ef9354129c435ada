"""Is the forgotten relearnt faster than the never seen? What is faster was not forgotten, only hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from amnesty.data import Batches, dataset_of
from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.relearning import Aim, BatchNorm, Relearned, relearn, score
from amnesty.seeds import derive, seeded
from amnesty.tasks import Source, unpack

MIN_EXAMPLES = 8
MIN_SEEDS = 3
DRAWS = 1000


class Settings(TypedDict, total=False):
    """How is learnt; see `amnesty.evaluation.relearning.relearn`."""

    lr: float
    momentum: float
    batch_size: int
    steps: int
    batch_norm: BatchNorm


@dataclass(frozen=True, kw_only=True)
class Relearning:
    """How fast the forgotten is relearnt, against the never seen; see `relearning`.

    Attributes:
        ratio: median steps for the forgotten over median steps for the never seen. 1 is ideal; below 1 the
            model remembers; far above 1 it is damaged where it forgot. ``None`` where the steps tell nothing.
        low: of the bootstrap interval of the ratio, over seeds.
        high: likewise.
        p_value: of the one-sided log-rank test that the forgotten is relearnt no faster; small: it remembers.
        reason: why there is no ratio, or why it is only a bound; empty otherwise.
        measure: what the goal is about.
        count: examples on each side.
        forget: each seed's relearning of the forgotten.
        control: of the never seen.
    """

    ratio: float | None
    low: float | None
    high: float | None
    p_value: float
    reason: str
    measure: Aim
    count: int
    forget: tuple[Relearned, ...]
    control: tuple[Relearned, ...]

    @property
    def resolution(self) -> bool:
        """Say whether there is a ratio."""
        return self.ratio is not None

    @property
    def forget_censored(self) -> int:
        """Return for how many seeds the forgotten was not relearnt within the cap."""
        return sum(run.censored for run in self.forget)

    @property
    def control_censored(self) -> int:
        """Return for how many seeds the never seen was not learnt within the cap."""
        return sum(run.censored for run in self.control)


def relearning(
    model: nn.Module,
    forget: Source,
    control: Source,
    retain: Source | None = None,
    *,
    original: nn.Module | None = None,
    goal: float | None = None,
    measure: Aim = "loss",
    seeds: int = 5,
    seed: int = 0,
    level: float = 0.95,
    **settings: Unpack[Settings],
) -> Relearning:
    """Compare the steps to relearn the forget set with those to learn never-seen examples like it.

    For each seed equally many examples of each class are drawn from the forget set and from the control (as many
    as the rarer side has), and the same model learns either, with the same settings, to the same goal (`relearn`).

    No retrained model is needed, since for one the forget set and the control are exchangeable. That holds for
    forgotten examples, not for a whole class: features of a class that were kept speed up both sides alike. There,
    compare `relearn` with that of a retrained model.

    The goal is the original's: a mean loss of ``1.05 * L + 1e-5``, L being the original's on the same forgotten
    examples, or its accuracy there less five points. The loss is the default: models are right on most ordinary
    unseen examples before the first step, so that accuracy has nothing to count, whereas the original's loss on
    what it trained on is far below its loss on what it did not. Accuracy suits examples that an unseeing model
    gets wrong, such as wrong labels.

    Args:
        model: the unlearned model.
        forget: the forgotten examples.
        control: never-seen examples of the same classes, made in the same way.
        retain: see `relearn`; wanted whenever there are any.
        original: the model before unlearning, from which the goal is taken; or give ``goal``.
        goal: see `relearn`.
        measure: of the goal.
        seeds: relearnings of each side, at least 3.
        seed: of all draws.
        level: of the bootstrap interval over seeds. It and the test speak of the draws and the order of the
            examples, for this one model; with few seeds both are coarse.
        settings: ``lr``, ``momentum``, ``batch_size``, ``steps``, ``batch_norm`` of `relearn`.

    Raises:
        MissingReferenceError: neither ``original`` nor ``goal`` is given.
        InvalidInputError: both are, fewer than eight examples a side, or as `relearn`.
        ModelError, NonFiniteError, DataError, SplitError: as `relearn`.

    Source: the anamnesis index of Chundawat et al., Zero-shot machine unlearning, TIFS 2023, with a control in place
    of the retrained model, the loss in place of the accuracy, and censoring kept.
    """
    if (original is None) == (goal is None):
        kind = MissingReferenceError if goal is None else InvalidInputError
        raise kind("Relearning needs to know when it is done: pass either `original=` or `goal=`.")
    if seeds < MIN_SEEDS or not 0 < level < 1:
        raise InvalidInputError(
            f"`seeds` must be at least {MIN_SEEDS} and `level` in (0, 1), found {seeds} and {level}."
        )
    sides = _Pool.of(forget, "forget"), _Pool.of(control, "control")
    runs: list[tuple[Relearned, Relearned]] = []
    for k in range(seeds):
        of_run = derive(seed, "relearning", k)
        drawn = _drawn(*sides, of_run)
        aim = goal if original is None else _goal(original, drawn[0], measure)
        assert aim is not None
        first, second = (
            relearn(model, part, goal=aim, retain=retain, measure=measure, seed=of_run, **settings) for part in drawn
        )
        runs.append((first, second))
    return _compared(tuple(runs), measure, len(drawn[0]), level, seed)


@dataclass(frozen=True)
class _Pool:
    """A data set to draw from, and its labels, shape [n]."""

    dataset: Dataset[Any]
    labels: np.ndarray

    @classmethod
    def of(cls, source: Source, name: str) -> _Pool:
        dataset = dataset_of(source, name)
        with seeded(0, torch.device("cpu")):  # examples may be augmented as they are read
            labels = torch.cat([unpack(batch)[1] for batch in Batches(dataset, name=name).iterate()])
        return cls(dataset, labels.cpu().numpy())


def _drawn(forget: _Pool, control: _Pool, seed: int) -> tuple[Subset[Any], Subset[Any]]:
    """Draw equally many examples of each class from both, as many as the side that has fewer of it."""
    random = np.random.default_rng(derive(seed, "draw"))
    chosen: tuple[list[int], list[int]] = ([], [])
    for c in np.intersect1d(forget.labels, control.labels):
        both = [np.flatnonzero(pool.labels == c) for pool in (forget, control)]
        for k in range(2):
            chosen[k].extend(random.permutation(both[k])[: min(map(len, both))].tolist())
    if len(chosen[0]) < MIN_EXAMPLES:
        raise InvalidInputError(
            f"Relearning needs at least {MIN_EXAMPLES} forgotten and as many never-seen examples of the same "
            f"classes, found {len(chosen[0])}. Give a larger `control` of the forgotten classes."
        )
    return Subset(forget.dataset, sorted(chosen[0])), Subset(control.dataset, sorted(chosen[1]))


def _goal(original: nn.Module, forgotten: Source, measure: Aim) -> float:
    accuracy, loss = score(original, forgotten)
    return 1.05 * loss + 1e-5 if measure == "loss" else accuracy - 0.05


def _compared(
    runs: tuple[tuple[Relearned, Relearned], ...], measure: Aim, count: int, level: float, seed: int
) -> Relearning:
    forget, control = zip(*runs, strict=True)
    steps = np.array([[run.steps for run in side] for side in (forget, control)], dtype=np.float64)
    reason, void = _reason(forget, control, steps)
    found: tuple[float | None, ...] = (None, None, None)
    if not void:
        draws = np.random.default_rng(derive(seed, "relearning interval")).integers(
            len(runs), size=(DRAWS, len(runs))
        )
        drawn = _ratio(np.median(steps[:, draws], axis=2))
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")  # which may be infinite
        found = float(_ratio(np.median(steps, axis=1))), float(ends[0]), float(ends[1])
    return Relearning(
        ratio=found[0],
        low=found[1],
        high=found[2],
        p_value=_log_rank(forget, control),
        reason=reason,
        measure=measure,
        count=count,
        forget=forget,
        control=control,
    )


def _reason(forget: tuple[Relearned, ...], control: tuple[Relearned, ...], steps: np.ndarray) -> tuple[str, bool]:
    """Return what is wrong with the ratio, and whether there is none."""
    capped = [2 * sum(run.censored for run in side) > len(side) for side in (forget, control)]
    if all(capped):
        return "Neither side met the goal within the cap in most seeds. Raise `steps` or `lr`.", True
    if np.median(steps[1]) == 0:
        return (
            "The never-seen examples meet the goal before the first step: it asks for nothing that had to be "
            "remembered. Set a stricter goal, or measure the loss.",
            True,
        )
    if capped[0]:
        return "A lower bound: the forgotten was not relearnt within the cap in most seeds.", False
    return ("An upper bound: the never seen was not learnt within the cap in most seeds." if capped[1] else ""), False


def _ratio(medians: np.ndarray) -> np.ndarray:
    """Return the ratio of medians, shape [2, ...], 1 where neither took a step."""
    forget, control = medians
    ratio = np.divide(forget, control, out=np.full(np.shape(forget), np.inf), where=control > 0)
    return np.where((forget == 0) & (control == 0), 1.0, ratio)


def _log_rank(forget: tuple[Relearned, ...], control: tuple[Relearned, ...]) -> float:
    from scipy.stats import CensoredData, logrank

    sides = [
        CensoredData.right_censored([run.steps for run in side], [run.censored for run in side])
        for side in (forget, control)
    ]
    with np.errstate(invalid="ignore"):  # no variance: all took equally many steps
        p_value = float(logrank(*sides, alternative="greater").pvalue)
    return 1.0 if np.isnan(p_value) else p_value
