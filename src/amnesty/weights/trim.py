"""Drawing anew the weights that matter most to what is to be forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from torch import Tensor, nn

from amnesty.errors import InvalidInputError
from amnesty.seeds import generator
from amnesty.tasks import Loss, Source, cross_entropy
from amnesty.weights.measuring import trainable
from amnesty.weights.parts import norm_parameters
from amnesty.weights.renew import renew
from amnesty.weights.scores import dataset_gradient
from amnesty.weights.select import top_share

Scope = Literal["all", "eligible"]
"""Among which weights the share is counted; see `snip_trim`."""


def snip_trim(
    model: nn.Module,
    source: Source,
    share: float,
    *,
    names: Iterable[str] | None = None,
    batches: int | None = 1,
    batch_size: int = 256,
    scope: Scope = "all",
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> dict[str, float]:
    """Draw anew, in place, the weights to which the loss of ``source`` is most sensitive.

    The score of a weight is ``|theta * sum_b |grad of batch b||``, in evaluation mode. Of the ``share`` of
    weights with the highest scores those that are eligible are renewed: weights uniformly, biases to 0 (see
    `renew`). Parameters of norm layers and frozen ones never are, nor are weights of score 0; nothing is when
    all scores are equal.

    Args:
        model: changed in place.
        source: what is to be forgotten.
        share: in [0, 1]; 0.1 is the published sparsity of 0.9.
        names: of the eligible parameters, such as those of the last `stages`; by default all.
        batches: how many of ``source`` are scored; ``None`` for all.
        batch_size: examples in a batch, at most.
        scope: ``"all"``: the share is one of all trainable weights, as published, so that fewer are renewed;
            ``"eligible"``: of those that may be.
        loss: see `amnesty.tasks.Loss`.
        seed: of the batches and of what is drawn.

    Returns:
        Name of each eligible parameter -> the fraction of its entries that was renewed.

    Raises:
        InvalidInputError: ``share`` is outside [0, 1], unknown ``scope``.
        UnknownNameError: there is no parameter of a name given.
        ModelError: no trainable parameter. NonFiniteError: a gradient is NaN or infinite.

    Source: Wu & Harandi, Scissorhands, ECCV 2024, arXiv:2401.06187; used by Patel & Qiu, ICCV 2025,
    arXiv:2503.06339. Published code scores in training mode and renews the norms of shortcuts.
    """
    if scope not in get_args(Scope):
        raise InvalidInputError(f"`scope` must be one of {', '.join(get_args(Scope))}, found {scope!r}.")
    norms = norm_parameters(model)
    eligible = [name for name in trainable(model, names) if name not in norms]
    steepness = dataset_gradient(
        model, source, loss, batch_size=batch_size, batches=batches, seed=seed, absolute=True
    )
    scores = {name: p.detach().mul(steepness[name]).abs() for name, p in trainable(model).items()}
    if scope == "eligible":
        scores = {name: scores[name] for name in eligible}
    chosen = top_share(scores, share) if scores else {}
    if _constant(scores):
        return dict.fromkeys(eligible, 0.0)
    fractions = {}
    for name in eligible:
        mask = chosen[name] & (scores[name] > 0)
        renew(model, name, mask, generator=generator(seed, "trim", name))
        fractions[name] = mask.double().mean().item()
    return fractions


def _constant(scores: dict[str, Tensor]) -> bool:
    values = [score.aminmax() for score in scores.values()]
    return not values or max(v.max.item() for v in values) == min(v.min.item() for v in values)
