"""ZRF: how like an untrained model does the unlearned one answer?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError
from amnesty.evaluation.distance import divergence, js_divergence, log_probabilities
from amnesty.seeds import derive, seeded
from amnesty.tasks import device_of
from amnesty.weights import reinitialised

MIN_TEACHERS = 5


def zero_retrain_forgetting(logits: Tensor, teacher_logits: Sequence[Tensor]) -> float:
    """Return ZRF, how like the answers of untrained models the model's are; in [0, 1].

    ``1 - mean JS(model, teacher)`` in bits, over examples and over at least five untrained teachers (see
    `random_teachers`), since one alone depends on its draw. 1: answers like an untrained model. That is not the
    ideal: a retrained model, which generalises, stays below. Match its value, and read `normalised_entropy`
    beside it.

    Args:
        logits: of the model on the forget set (of a whole class: on unseen examples of it), shape [n, C].
        teacher_logits: of each teacher, in evaluation mode, on the same examples.

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`, or fewer than five teachers.

    Source: Chundawat et al., Can bad teaching induce forgetting?, AAAI 2023. Differs from published code as
    `zrf_compat` says.
    """
    if len(teacher_logits) < MIN_TEACHERS:
        raise InvalidInputError(
            f"`teacher_logits` must hold the answers of at least {MIN_TEACHERS} untrained models, found "
            f"{len(teacher_logits)}. `random_teachers` makes them."
        )
    return 1.0 - float(np.mean([js_divergence(logits, teacher).mean() for teacher in teacher_logits]))


def zrf_compat(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return ZRF as published code has it, for comparing with its tables only; use `zero_retrain_forgetting`.

    ``1 - sum_ic (KL(m || p) + KL(m || q))_ic / (2 n C)`` in nats: the divergences are reversed, so that they have
    no upper bound, and the mean is over classes too, so that it tends to 1 with their number, whatever the
    answers. One teacher, which that code leaves in training mode. Where its float32 probabilities underflow its
    value is minus infinity; ours is finite.

    Args:
        logits: shape [n, C].
        teacher_logits: of one untrained model, in training mode, on the same examples.

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`.

    Source: code of Foster et al. (SSD, AAAI 2024), after Chundawat et al., AAAI 2023.
    """
    p, q = log_probabilities(logits, teacher_logits)
    m = torch.logaddexp(p, q) - math.log(2)
    return 1.0 - float((divergence(m, p) + divergence(m, q)).mean()) / (2 * logits.shape[1])


def random_teachers(
    model: nn.Module, *, count: int = MIN_TEACHERS, seed: int, fresh: Callable[[], nn.Module] | None = None
) -> list[nn.Module]:
    """Return untrained models of the same architecture, in evaluation mode, on the model's device.

    Each is a copy made anew by `amnesty.weights.reinitialised`, frozen parameters too. The model and the caller's
    random generators stay as they are. The k-th teacher depends on the seed and k only.

    Args:
        model: whose architecture they have.
        count: how many, at least 1.
        seed: of their weights.
        fresh: makes an untrained model; needed if some module cannot be initialised afresh.

    Raises:
        ModelError: a module holds parameters of its own but has no ``reset_parameters``.
        InvalidInputError: ``count`` is below 1.
    """
    if count < 1:
        raise InvalidInputError(f"`count` must be at least 1, found {count}.")
    device = device_of(model)
    made = (_untrained(model, derive(seed, "random teacher", k), fresh) for k in range(count))
    return [teacher.to(device).eval().requires_grad_(False) for teacher in made]


def _untrained(model: nn.Module, seed: int, fresh: Callable[[], nn.Module] | None) -> nn.Module:
    if fresh is None:
        return reinitialised(copy.deepcopy(model).requires_grad_(True), seed)
    with seeded(seed, torch.device("cpu")):  # the same weights on every device
        return fresh()
