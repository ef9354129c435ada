"""Training a part of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from amnesty.errors import ModelError, UnknownNameError


@contextmanager
def only_trainable(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Freeze all parameters but those of ``names``; afterwards all flags are as they were.

    What was frozen before stays so. A batch norm whose weights are all frozen is not trained either; see
    `amnesty.training.batchnorm.set_modes`.

    Raises:
        UnknownNameError: there is no parameter of a name given.
        ModelError: all parameters of these names are frozen.
    """
    parameters, wanted = dict(model.named_parameters()), set(names)
    for name in wanted - parameters.keys():
        raise UnknownNameError("parameter", name, parameters)
    flags = {name: p.requires_grad for name, p in parameters.items()}
    if not any(flags[name] for name in wanted):
        raise ModelError(f"All {len(wanted)} parameters that are to be trained are frozen (`requires_grad=False`).")
    try:
        for name, p in parameters.items():
            p.requires_grad_(flags[name] and name in wanted)
        yield
    finally:
        for name, p in parameters.items():
            p.requires_grad_(flags[name])
