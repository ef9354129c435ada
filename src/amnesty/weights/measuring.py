"""How a model is looked at: in evaluation mode, without a trace, through its trainable parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.errors import ModelError, NonFiniteError, ShapeError, UnknownNameError
from amnesty.seeds import seeded
from amnesty.tasks import device_of, evaluating


@contextmanager
def measuring(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Look at ``model`` in evaluation mode, without autocast or gradients, noise drawn from ``seed``.

    Modes, buffers and the caller's random state are as before afterwards. Whoever needs gradients says
    ``torch.enable_grad()`` within, and takes them by `torch.autograd.grad`, which leaves ``.grad`` alone.
    """
    device = device_of(model)
    buffers = [
        (module._buffers, name, buffer, buffer._version, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        with evaluating(model), seeded(seed, device), torch.autocast(device.type, enabled=False):
            yield
    finally:
        with torch.no_grad():
            for home, name, buffer, version, copy in buffers:
                home[name] = buffer
                if buffer._version != version:  # written to, even in evaluation mode
                    buffer.copy_(copy)


def named(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Return the parameters of these names, in the model's order; tied ones have the first of their names.

    Raises:
        UnknownNameError: there is no parameter of a name given.
    """
    parameters, wanted = dict(model.named_parameters()), set(names)
    for name in sorted(wanted - parameters.keys()):
        raise UnknownNameError("parameter", name, parameters)
    return {name: p for name, p in parameters.items() if name in wanted}


def trainable(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters that may change, by name: all, or those among ``names``; tied ones once.

    Raises:
        UnknownNameError: there is no parameter of a name given.
        ModelError: none is left: all are frozen.
    """
    chosen = dict(model.named_parameters()) if names is None else named(model, names)
    found = {name: p for name, p in chosen.items() if p.requires_grad}
    if not found:
        raise ModelError(f"None of {len(chosen)} parameters may change: expected one with `requires_grad=True`.")
    return found


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds the parameter ``name``, and the parameter's name within it."""
    home, _, attribute = name.rpartition(".")
    return model.get_submodule(home), attribute


def check_mask(name: str, parameter: Tensor, mask: Tensor) -> None:
    """Raise `ShapeError` unless ``mask`` is a bool tensor of the parameter's shape."""
    if mask.dtype != torch.bool or mask.shape != parameter.shape:
        raise ShapeError(
            f"The mask of {name!r} must be a bool tensor of shape {list(parameter.shape)}, found {mask.dtype} of "
            f"shape {list(mask.shape)}."
        )


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or in float64 if it is: squares and sums leave the range of half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def zeros_like(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros to add to, one tensor for each parameter, as `wide` as sums need."""
    return {name: torch.zeros_like(wide(p.detach())) for name, p in parameters.items()}


def finite(scores: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return ``scores``.

    Raises:
        NonFiniteError: one holds NaN or infinity; the message names ``what`` they are, and the parameter.
    """
    for name, score in scores.items():
        if not score.isfinite().all():
            raise NonFiniteError(f"{what} of {name!r} is NaN or infinite. Are all weights and inputs finite?")
    return scores


def count_examples(batch: Any) -> int:
    """Return the length of the first tensor in a batch (tuples, lists and mappings of tensors)."""
    found = _first_tensor(batch)
    if found is None or found.dim() == 0:
        raise ShapeError(f"Cannot count the examples of a batch: no tensor found in a {type(batch).__name__}.")
    return len(found)


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((t for t in map(_first_tensor, parts) if t is not None), None)
