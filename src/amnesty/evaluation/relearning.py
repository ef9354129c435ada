"""How many optimiser steps does a model need to learn given examples (again)?"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from amnesty.data import Batches
from amnesty.errors import InvalidInputError, ModelError, NonFiniteError
from amnesty.seeds import derive, seeded
from amnesty.tasks import Source, device_of, logits, to_device, unpack
from amnesty.tasks.labelled import predict

Aim = Literal["loss", "accuracy"]
"""What tells that the examples are relearnt; see `amnesty.evaluation.relearning`."""

BatchNorm = Literal["frozen", "train"]
"""``"frozen"``: running statistics are used and stay. ``"train"``: those of the batch are, and the running ones
follow."""


@dataclass(frozen=True)
class Relearned:
    """One relearning: after how many optimiser steps the goal was met, and how accuracy and loss went.

    Attributes:
        steps: optimiser steps until the goal; the cap if it was not met.
        censored: the goal was not met within the cap.
        goal: the accuracy, or loss in nats, to be met.
        accuracies: on all target examples before the first step and after each, fractions.
        losses: mean cross-entropy there, nats.
    """

    steps: int
    censored: bool
    goal: float
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]


def relearn(
    model: nn.Module,
    target: Source,
    *,
    goal: float,
    retain: Source | None = None,
    measure: Aim = "loss",
    lr: float = 0.01,
    momentum: float = 0.9,
    batch_size: int = 64,
    steps: int = 200,
    batch_norm: BatchNorm = "train",
    seed: int = 0,
) -> Relearned:
    """Train a copy of ``model`` on ``target`` until it meets the goal, and count the steps.

    Plain SGD on ``CE(target batch)``, plus ``CE(retain batch)`` where there are retained examples. After every
    step the whole target is scored in evaluation mode. The model and the caller's random generators stay as they
    are.

    Args:
        model: to be relearnt from; trained where its parameters require gradients, on its own device.
        target: the examples.
        goal: a mean cross-entropy (nats) to fall to, or an accuracy in [0, 1] to rise to, by ``measure``.
        retain: examples to keep right meanwhile. Without them few classes are learnt in a few steps by answering
            nothing else, by any model, and the count is void.
        measure: of the goal.
        lr: learning rate; compare models at the same one only.
        momentum: of SGD.
        batch_size: of each of the two batches, at most.
        steps: the cap.
        batch_norm: statistics that follow the batches can alone revive what weights still hold: measure with both.
            Frozen ones learn far slower and may diverge where unlearning spoilt them.
        seed: of the order of the examples and of dropout.

    Raises:
        InvalidInputError: settings out of range.
        ModelError: no parameter requires a gradient, or the model's logits are not finite.
        NonFiniteError: relearning diverged.
        DataError, SplitError: as `amnesty.data.Batches`.

    Source: Golatkar et al., CVPR 2020 (relearn time). Published code (SCRUB) draws from the whole training set and
    returns 0 for a goal that is never met; here the target is trained on, and a cap that was hit says so.
    """
    _check_settings(goal, measure, lr, momentum, steps, batch_norm)
    learner = copy.deepcopy(model)
    parameters = [p for p in learner.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("No parameter of the model requires a gradient: nothing can be relearnt.")
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    sources = {"target": target} | ({} if retain is None else {"retain": retain})
    curve = [score(learner, target)]
    if not np.isfinite(curve[0]).all():
        raise ModelError("The model's logits on the target are not finite: it cannot be relearnt.")
    device = device_of(learner)
    with seeded(derive(seed, "relearning"), device), torch.autocast(device.type, enabled=False):
        streams = [_endless(Batches(s, batch_size, derive(seed, name), name)) for name, s in sources.items()]
        _set_modes(learner, batch_norm)
        while not _met(curve[-1], goal, measure) and len(curve) <= steps:
            _step(learner, optimizer, [next(stream) for stream in streams])
            curve.append(score(learner, target))
            if not np.isfinite(curve[-1]).all():
                raise NonFiniteError(f"Relearning diverged in step {len(curve) - 1}. A smaller `lr` usually helps.")
    accuracies, losses = zip(*curve, strict=True)
    return Relearned(len(curve) - 1, not _met(curve[-1], goal, measure), goal, accuracies, losses)


def score(model: nn.Module, source: Source) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy, NaN unless the logits are finite."""
    found = predict(model, source)
    if not found.logits.isfinite().all():
        return np.nan, np.nan
    right = (found.logits.argmax(dim=1) == found.labels).double().mean()
    return float(right), float(F.cross_entropy(found.logits.double(), found.labels))


def _met(score: tuple[float, float], goal: float, measure: Aim) -> bool:
    return score[1] <= goal if measure == "loss" else score[0] >= goal - 1e-9


def _endless(batches: Batches) -> Iterator[Any]:
    return itertools.chain.from_iterable(batches.iterate(k) for k in itertools.count())


def _set_modes(model: nn.Module, batch_norm: BatchNorm) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and batch_norm == "frozen":
            module.eval()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any]) -> None:
    optimizer.zero_grad()
    for batch in batches:
        inputs, labels = unpack(to_device(batch, device_of(model)))
        torch.autograd.backward(F.cross_entropy(logits(model(inputs)), labels))  # gradients add up
    optimizer.step()


def _check_settings(goal: float, measure: str, lr: float, momentum: float, steps: int, batch_norm: str) -> None:
    if measure not in get_args(Aim):
        raise InvalidInputError(f"`measure` must be one of {', '.join(get_args(Aim))}, found {measure!r}.")
    if batch_norm not in get_args(BatchNorm):
        raise InvalidInputError(
            f"`batch_norm` must be one of {', '.join(get_args(BatchNorm))}, found {batch_norm!r}."
        )
    if not (goal > 0 if measure == "loss" else 0 < goal <= 1) or not np.isfinite(goal):
        expected = "a mean cross-entropy above 0" if measure == "loss" else "an accuracy in (0, 1]"
        raise InvalidInputError(f"`goal` must be {expected}, found {goal}.")
    if not 0 < lr < np.inf or not 0 <= momentum < 1 or steps < 1:
        raise InvalidInputError(
            f"`lr` must be positive, `momentum` in [0, 1) and `steps` at least 1, found {lr}, {momentum} and {steps}."
        )
