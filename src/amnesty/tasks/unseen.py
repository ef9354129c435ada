"""What unseen examples look like to a model, and how far a forget set is from looking so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from amnesty.errors import InvalidInputError
from amnesty.seeds import generator
from amnesty.tasks import forgetting
from amnesty.tasks.base import Role, Source
from amnesty.tasks.forgetting import OTHERS
from amnesty.tasks.labelled import Predictions, predict
from amnesty.tasks.margins import margins
from amnesty.tasks.objectives import Accompanied, Mean

FEW = 8
"""Unseen examples of a class that tell something of it."""

SAMPLE = 2048

LIKE = 0.25
"""Chance from which on two samples count as alike: a quarter of the samples that are alike differ as much."""


@dataclass(frozen=True)
class Distance:
    """How far a forget set is from looking unseen.

    Attributes:
        distance: the most by which the distribution function of unseen margins lies above that of the forget set's,
            in [0, 1]: the one-sided Kolmogorov-Smirnov statistic. 1: every forgotten example is surer than every
            unseen one.
        likeness: the chance of such a distance, or a greater one, between samples that are alike (the asymptotic
            ``exp(-2 d^2 nm / (n + m))``), of the forget set that is farthest away.
    """

    distance: float
    likeness: float

    @property
    def like(self) -> bool:
        """Whether the forget set cannot be told from unseen examples by being surer; see `LIKE`."""
        return self.likeness >= LIKE


class Forgetting(Protocol):
    """What `amnesty.Classification` tells of what is forgotten."""

    model: nn.Module
    parts: dict[str, Source]
    sets: dict[str, Source]

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """Classes that are forgotten altogether."""

    def labels(self, part: str) -> Tensor:
        """Return the labels of a part, shape [n]."""


class Unseen:
    """What unseen examples look like, read off the original model, and followed while that is unlearned.

    Two kinds of margins (log-odds of the label) are told apart:

    - *Of a class that is forgotten altogether*: those that the original gives the retain set for that class. A model
      that never met a class gives its images about as much of it. These stay: models that are trained on without the
      class give ever less of it, and nobody needs to follow them there. But unseen examples of the class lose it
      sooner than those that were learnt by heart, which would then be told by it. So where the validation part has at
      least `FEW` of the class, the target is, quantile by quantile, the smaller of the two.
    - *Of all other classes*: those of the validation part. They drift while a model is unlearned. The target is,
      quantile by quantile, the larger of the original's and the present ones, so that nothing is pushed below what
      unseen examples look like by then, nor after unseen examples that are worse off for the moment. Where the
      original gives the validation labels less often than chance, they are wrong ones (those of a poisoned batch,
      say), of which a cleaner model is less sure: then it is the present ones.

    Args:
        task: an `amnesty.Classification`. The original is its model.
        shifted: read the second kind off the forget images moved by up to an eighth of their side, under the original
            alone, in place of a validation part.

    Raises:
        InvalidInputError: some class is only partly forgotten, and the task has no validation part (or inputs that
            are not images, with ``shifted``).
    """

    def __init__(self, task: Forgetting, shifted: bool = False) -> None:
        self._task, self._follows = task, not shifted
        self._gone = torch.tensor(task.forgotten_classes, dtype=torch.int64)
        self._first = self._of_classes()
        self._wrong = False
        if not set(task.labels("forget").tolist()) <= set(self._gone.tolist()):
            like = self._shifted() if shifted else self._validation(task.model)
            self._first[OTHERS] = self._ordinary(like)
            right = (like.logits.argmax(dim=1) == like.labels).double().mean().item()
            self._wrong = right < 1 / like.logits.shape[1]

    @property
    def gone(self) -> bool:
        """Whether some class is forgotten altogether."""
        return len(self._gone) > 0

    def targets(self, model: nn.Module) -> dict[int, Tensor]:
        """Return class -> margins wanted, sorted, shape [m], with those of `OTHERS` for all other classes."""
        found = dict(self._first)
        for key, now in self._now(model).items():
            if key != OTHERS:
                found[key] = torch.minimum(found[key], _resized(now, len(found[key])))
            else:
                found[key] = now if self._wrong else torch.maximum(found[key], now)
        return found

    def role(self, model: nn.Module, accompanied: bool = False) -> Role:
        """Return a forgetting player with the `targets` of this moment; see `Classification.unseen_like`.

        Args:
            model: as it is now.
            accompanied: pass retained examples through the network with each forget batch; see `Accompanied`.
        """
        objective = forgetting.unseen_like(self.targets(model))
        if accompanied:
            return Role("forget", Accompanied(objective), beside="retain")
        return Role("forget", Mean(objective))

    def distance(self, model: nn.Module) -> Distance:
        """Measure the forget sets as ``model`` sees them: the largest distance, and the least likeness."""
        now = self._now(model)
        unseen = [*now.items(), *((key, first) for key, first in self._first.items() if key != OTHERS or not now)]
        found = [_apart(own, other) for part in self._sets() for own, other in self._pairs(model, part, unseen)]
        return Distance(max(distance for distance, _ in found), min(likeness for _, likeness in found))

    def retained(self, model: nn.Module) -> float:
        """Return the accuracy in [0, 1] on what is kept, or on 2,048 examples of it, spread evenly."""
        part = self._task.parts["retain"]
        if not isinstance(part, DataLoader):
            count = len(part)  # type: ignore[arg-type]
            rows = torch.linspace(0, count - 1, min(count, SAMPLE)).long()
            part = Subset(part, rows.tolist())
        said = predict(model, part)
        return (said.logits.argmax(dim=1) == said.labels).double().mean().item()

    def _now(self, model: nn.Module) -> dict[int, Tensor]:
        """Return the margins that unseen examples have by now, as far as there are such."""
        if not self._follows or "validation" not in self._task.parts:
            return {}
        like = self._validation(model)
        found = {OTHERS: self._ordinary(like)} if OTHERS in self._first else {}
        for c in self._gone.tolist():
            mine = like.labels == c
            if mine.sum() >= FEW:
                found[c] = _sorted(like.logits[mine], like.labels[mine])
        return found

    def _sets(self) -> list[Source]:
        return list(self._task.sets.values()) or [self._task.parts["forget"]]

    def _pairs(
        self, model: nn.Module, part: Source, unseen: Sequence[tuple[int, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        said = predict(model, part)
        found = margins(said.logits, said.labels)
        for key, other in unseen:
            mine = ~torch.isin(said.labels, self._gone) if key == OTHERS else said.labels == key
            if mine.any():
                yield found[mine], other

    def _of_classes(self) -> dict[int, Tensor]:
        if not self.gone:
            return {}
        known = predict(self._task.model, self._task.parts["retain"])
        return {c: _sorted(known.logits, torch.full_like(known.labels, c)) for c in self._gone.tolist()}

    def _ordinary(self, like: Predictions) -> Tensor:
        kept = ~torch.isin(like.labels, self._gone)
        return _sorted(like.logits[kept], like.labels[kept])

    def _validation(self, model: nn.Module) -> Predictions:
        if "validation" not in self._task.parts:
            raise InvalidInputError(
                "To know what unseen examples look like, the task needs a `validation` part: examples that the model "
                "was not trained on, with labels of the same kind as those to forget."
            )
        return predict(model, self._task.parts["validation"])

    def _shifted(self) -> Predictions:
        offsets = generator(0, "shifts")
        return predict(
            self._task.model, self._task.parts["forget"], change=lambda x: forgetting.shifted_images(x, offsets)
        )


def _apart(own: Tensor, other: Tensor) -> tuple[float, float]:
    """Return how far ``own`` lies above ``other``, and the chance of that between samples that are alike."""
    own, points = own.sort().values, torch.cat([own, other])
    below = [torch.searchsorted(x, points, right=True).double() / len(x) for x in (other, own)]
    distance = max(0.0, (below[0] - below[1]).max().item())
    n, m = len(own), len(other)
    return distance, math.exp(-2 * distance**2 * n * m / (n + m))


def _resized(values: Tensor, count: int) -> Tensor:
    """Return the quantiles of ``values`` that a sorted sample of ``count`` has."""
    levels = (torch.arange(count, dtype=values.dtype, device=values.device) + 0.5) / count
    return torch.quantile(values, levels)


def _sorted(logits: Tensor, labels: Tensor) -> Tensor:
    return margins(logits, labels).sort().values
