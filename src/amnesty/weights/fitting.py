"""Do these tensors belong to this network? If not, why not, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from amnesty.errors import ModelError

PREFIXES = ("module.", "_orig_mod.")  # of `DataParallel` and of `torch.compile`


def fitted(state: Mapping[str, Tensor], model: nn.Module, where: str | Path) -> dict[str, Tensor]:
    """Return ``state`` under the model's own names.

    Args:
        state: tensors by name.
        model: left as it is.
        where: what the tensors are of, for messages.

    Raises:
        ModelError: tensors are missing or not known, of another shape or kind of number, or not finite.
    """
    own = model.state_dict()
    state = _without_prefixes(state, own)
    _check_names(state, own, f"{where} does not fit the {type(model).__name__}")
    _check_shapes(state, own, f"{where} does not fit the {type(model).__name__}")
    for name, value in state.items():
        _check_numbers(name, value, own[name], where)
    return dict(state)


def refuse_not_finite(model: nn.Module, where: str | Path) -> None:
    """Raise `ModelError` if a parameter of ``model`` is NaN or infinite, or a buffer NaN."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and not is_lazy(value) and _kind(value) != "integer":
            _refuse(name, ~value.isfinite() if name in parameters else value.isnan(), where)


def classes_in(state: Mapping[str, Tensor], model: nn.Module, classes: int) -> int | None:
    """Return how many classes a state is for, ``None`` if that cannot be told.

    It can where all its shapes are those of ``model``, which was made for ``classes``, but for the classifier's.
    """
    own = model.state_dict()
    different = _other_shapes(_without_prefixes(state, own), own)
    found = {_other_length(theirs, mine) for theirs, mine in different.values()}
    pair = found.pop() if len(found) == 1 else None
    return pair[0] if pair is not None and pair[1] == classes else None


def _without_prefixes(state: Mapping[str, Tensor], own: Mapping[str, object]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # in either order
        if state and all(name.startswith(prefix) for name in state) and not state.keys() <= own.keys():
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _check_names(state: Mapping[str, Tensor], own: Mapping[str, object], what: str) -> None:
    missing = [name for name in own if name not in state]
    strange = [name for name in state if name not in own]
    if not missing and not strange:
        return
    faults = [f"{len(names)} tensors are {how} ({_some(names)})" for how, names in _how(missing, strange) if names]
    raise ModelError(f"{what}: {' and '.join(faults)}. {_cause(state, own)}")


def _how(missing: list[str], strange: list[str]) -> list[tuple[str, list[str]]]:
    return [("missing", missing), ("not known to it", strange)]


def _cause(state: Mapping[str, Tensor], own: Mapping[str, object]) -> str:
    prefix = _surplus_prefix(state, own)
    if prefix:
        return f"All would fit without the prefix {prefix!r}: save the state dict of the inner network."
    if not state.keys() & own.keys():
        return "The likely cause: they are of another architecture."
    return "The likely cause: another size or other options of the architecture, or only a part was saved."


def _surplus_prefix(state: Mapping[str, Tensor], own: Mapping[str, object]) -> str | None:
    """Return what every name begins with, if all would be known without it."""
    first = next(iter(state), "")
    for prefix in {first.removesuffix(name) for name in own if first.endswith(name)} - {""}:
        if all(name.startswith(prefix) and name.removeprefix(prefix) in own for name in state):
            return prefix
    return None


def _check_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    different = _other_shapes(state, own)
    if not different:
        return
    name, (theirs, mine) = next(iter(different.items()))
    said = f"{what}: {name!r} has shape {list(theirs)} there and {list(mine)} here"
    more = f", and {len(different) - 1} more differ" if len(different) > 1 else ""
    found = {_other_length(*pair) for pair in different.values()}
    pair = found.pop() if len(found) == 1 else None
    if pair is not None:
        raise ModelError(
            f"{said}{more}. The weights seem to be for {pair[0]} classes, the network is for {pair[1]} "
            "(`model.classes` in a request)."
        )
    raise ModelError(f"{said}{more}. The likely cause: another size or other options of the architecture.")


def _other_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Return name -> shape in the state and shape in the network, where these differ."""
    both = {name: (state[name], own[name]) for name in state if name in own and not is_lazy(own[name])}
    return {name: (a.shape, b.shape) for name, (a, b) in both.items() if a.shape != b.shape}


def _other_length(theirs: torch.Size, mine: torch.Size) -> tuple[int, int] | None:
    """Return the two lengths of the first dimension, if nothing else differs."""
    if len(theirs) != len(mine) or not theirs or theirs[1:] != mine[1:]:
        return None
    return theirs[0], mine[0]


def _check_numbers(name: str, value: Tensor, own: Tensor, where: str | Path) -> None:
    if _kind(value) != _kind(own):
        raise ModelError(f"{where}: {name!r} is of {value.dtype}, where the network has {own.dtype}.")
    if is_lazy(own) or _kind(own) == "integer":
        return
    value = value.to(own.dtype)
    if value.isfinite().all():
        return
    # A mask of minus infinity may be part of a network.
    _refuse(name, ~value.isfinite() & (value != own.cpu()), where)


def _refuse(name: str, wrong: Tensor, where: str | Path) -> None:
    if wrong.any():
        raise ModelError(
            f"{where}: {int(wrong.sum())} of {wrong.numel()} numbers of {name!r} are NaN or infinite. The model was "
            "damaged in training or in the file; nothing can be unlearned from it."
        )


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    return "float" if tensor.is_floating_point() else "integer"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
