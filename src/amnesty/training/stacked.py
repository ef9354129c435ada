"""Many small networks trained at once: one launch of each kernel serves all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from amnesty.data import Batches
from amnesty.errors import DataError, InvalidInputError, ModelError, NonFiniteError
from amnesty.seeds import seeded
from amnesty.tasks import count_classes, device_of, inspect, logits, unpack
from amnesty.training.fit import Recipe
from amnesty.training.schedules import scheduler
from amnesty.weights import reinitialised

Members = Sequence[int] | np.ndarray | Tensor
"""Which examples a model learns, in the order in which a data set of its own would hold them."""


def train_stacked(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    members: Sequence[Members],
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    device: str | torch.device | None = None,
    chunk: int = 32,
) -> list[nn.Module]:
    """Train M copies of ``model`` at once, each initialised afresh, on examples and in an order of its own.

    The result is that of `amnesty.train(model, Subset(data, members[k]), recipe, seed=seeds[k])` for every k, up to
    rounding: the same first weights, the same batches, the same steps. Weights are stacked, shape [m, ...]; the
    forward pass is `torch.vmap` over them, the backward pass one ordinary call on the sum of the m mean losses,
    in which no gradient of one model meets another's, and SGD moves every number by itself. Running statistics of
    batch norm are stacked too.

    Models with equally many members train together, ``chunk`` of them at most; members that differ in number would
    need padded batches, which batch norm would see.

    Args:
        model: the architecture; it is not changed.
        inputs: shape [n, ...], kept whole on the device.
        labels: class numbers, shape [n].
        members: for each of the M models, indices into the examples.
        recipe: see `Recipe`.
        seeds: one for each model.
        device: where to train; by default where ``model`` is.
        chunk: models on the device at a time.

    Returns:
        The models in the order of ``members``, in evaluation mode, on the device of ``model``.

    Raises:
        InvalidInputError: no model, not one seed each, members that are no indices, or ``chunk`` below 1.
        DataError: see `amnesty.train`.
        ModelError: the model cannot be initialised afresh or takes other inputs; or it cannot be stacked, as with
            dropout, whose draws would depend on the other models.
        NonFiniteError: weights of a model are not finite after an epoch.

    Example:
        >>> images, labels = torch.randn(20, 4), torch.arange(20) % 2
        >>> recipe = Recipe(epochs=1, batch_size=5)
        >>> models = train_stacked(nn.Linear(4, 2), images, labels, [range(10), range(10, 20)], recipe, seeds=[0, 1])
        >>> [type(model).__name__ for model in models]
        ['Linear', 'Linear']
    """
    chosen = _indices(members, seeds, chunk, len(inputs))
    home = device_of(model)
    away = torch.device(device) if device is not None else home
    found = inspect("training", TensorDataset(inputs, labels), unpack, hashed=False)
    found.check_labels(count_classes(model, found))
    data = inputs.to(away), labels.to(away, torch.int64)
    trained: dict[int, nn.Module] = {}
    for group in equally_long([len(own) for own in chosen], chunk):
        fresh = [reinitialised(model, seeds[k]).to(away).train() for k in group]
        streams = [
            Batches(TensorDataset(chosen[k]), recipe.batch_size, seeds[k], "train")  # named as in `train`
            for k in group
        ]
        with seeded(seeds[group[0]], away), torch.autocast(away.type, enabled=False):
            _fit(fresh, group, streams, data, recipe)
        trained |= {k: one.to(home).eval() for k, one in zip(group, fresh, strict=True)}
    return [trained[k] for k in range(len(chosen))]


def _fit(
    models: list[nn.Module],
    numbers: Sequence[int],
    streams: list[Batches],
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> None:
    """Train models in place; ``numbers`` are theirs, for errors."""
    inputs, labels = data
    parameters, buffers = stack_module_state(models)
    optimizer = torch.optim.SGD(parameters.values(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    rates = scheduler(optimizer, recipe.schedule, recipe.epochs * len(streams[0]))
    forward = _forward(models[0])
    for epoch in range(1, recipe.epochs + 1):
        for batches in zip(*(stream.iterate(epoch) for stream in streams), strict=True):
            rows = torch.stack([rows for (rows,) in batches]).to(labels.device)  # [m, B]
            said = forward(parameters, buffers, inputs[rows])  # [m, B, C]
            each = F.cross_entropy(said.flatten(0, 1), labels[rows].flatten(), reduction="none")
            each.view(rows.shape).mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            rates.step()
        _check_finite(parameters, numbers, epoch)
    _unstack(models, {**parameters, **buffers})


def _forward(model: nn.Module) -> Callable[[dict[str, Tensor], dict[str, Tensor], Tensor], Tensor]:
    """Return what maps stacked weights, stacked buffers and inputs, shape [m, B, ...], to logits, [m, B, C]."""
    skeleton = copy.deepcopy(model)

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> Tensor:
        return logits(functional_call(skeleton, (parameters, buffers), (batch,)))

    every: Any = torch.vmap(one, randomness="error")

    def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> Tensor:
        try:
            found: Tensor = every(parameters, buffers, batch)
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"This model cannot be trained in a stack: {error} Train its copies one by one with `amnesty.train`."
            ) from error
        return found

    return forward


@torch.no_grad()
def _check_finite(parameters: dict[str, Tensor], numbers: Sequence[int], epoch: int) -> None:
    finite = torch.stack([p.isfinite().flatten(1).all(dim=1) for p in parameters.values()]).all(dim=0)
    if not finite.all():
        first = numbers[int((~finite).nonzero()[0])]
        raise NonFiniteError(
            f"Weights of model {first} are not finite after epoch {epoch}. A smaller `lr` usually helps."
        )


@torch.no_grad()
def _unstack(models: list[nn.Module], stacked: dict[str, Tensor]) -> None:
    for k, model in enumerate(models):
        for name, own in (*model.named_parameters(), *model.named_buffers()):
            own.copy_(stacked[name][k])


def equally_long(lengths: Sequence[int], chunk: int) -> Iterator[list[int]]:
    """Yield the numbers of models that train together: equally many members, hence batches of the same sizes."""
    for length in sorted(set(lengths)):
        same = [k for k, own in enumerate(lengths) if own == length]
        yield from (same[start : start + chunk] for start in range(0, len(same), chunk))


def _indices(members: Sequence[Members], seeds: Sequence[int], chunk: int, count: int) -> list[Tensor]:
    if not isinstance(chunk, int) or chunk < 1:
        raise InvalidInputError(f"`chunk` must be a whole number of at least 1, found {chunk!r}.")
    if len(members) == 0 or len(members) != len(seeds):
        raise InvalidInputError(
            f"`members` and `seeds` must have one entry for each model, found {len(members)} and {len(seeds)}."
        )
    found = [torch.as_tensor(np.asarray(own)) for own in members]
    for k, own in enumerate(found):
        if own.dim() != 1 or len(own) == 0 or own.is_floating_point() or own.dtype == torch.bool:
            raise DataError(
                f"`members[{k}]` must be indices, shape [at least 1], found {own.dtype}, {list(own.shape)}."
            )
        if int(own.min()) < 0 or int(own.max()) >= count:
            raise DataError(f"`members[{k}]` must be in [0, {count}), found {int(own.min())} to {int(own.max())}.")
    return found
