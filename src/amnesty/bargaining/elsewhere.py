"""Evaluations at other weights than the model's, which leave no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from amnesty.bargaining.gramian import Gradient
from amnesty.bargaining.vocabulary import Moving


@contextmanager
def shifted(moving: Moving, direction: Gradient, factor: float | Tensor) -> Iterator[None]:
    """Add ``factor * direction`` to the parameters, in place; afterwards they are what they were, to the bit.

    Live graphs stay valid: ``.data`` has a version counter of its own, and the values are back when they
    are differentiated. Views and tied weights follow, since the memory is the same.
    """
    pairs = [(p.data, d) for (p, _), d in zip(moving, direction, strict=True) if d is not None]
    held = [p.clone() for p, _ in pairs]
    try:
        for p, d in pairs:
            if isinstance(factor, Tensor):
                p.addcmul_(d, factor.to(d))
            else:
                p.add_(d, alpha=factor)
        # An autocast around the step keeps casts of the weights as they were.
        torch.clear_autocast_cache()
        yield
    finally:
        for (p, _), value in zip(pairs, held, strict=True):
            p.copy_(value)
        torch.clear_autocast_cache()


@contextmanager
def kept(buffers: Sequence[Tensor]) -> Iterator[None]:
    """Leave the buffers as they were."""
    held = [b.detach().clone() for b in buffers]
    try:
        yield
    finally:
        for b, value in zip(buffers, held, strict=True):
            b.data.copy_(value)


class Moment:
    """What a player finds before its turn, beside the weights, and changes in it.

    Args:
        devices: whose generators count, beside that of the host: torch's own, on CUDA.
        buffers: batch-norm statistics and the like.
    """

    def __init__(self, devices: Iterable[torch.device], buffers: Sequence[Tensor]) -> None:
        self._host = torch.get_rng_state()
        self._devices = {d: torch.cuda.get_rng_state(d) for d in set(devices) if d.type == "cuda"}
        self._buffers = [(b, b.detach().clone()) for b in buffers]

    def restore(self) -> None:
        """Go on from here."""
        torch.set_rng_state(self._host)
        for device, state in self._devices.items():
            torch.cuda.set_rng_state(state, device)
        for b, value in self._buffers:
            b.data.copy_(value)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Live the moment once more; afterwards it is as if that had not happened."""
        now = Moment(self._devices, [b for b, _ in self._buffers])
        self.restore()
        try:
            yield
        finally:
            now.restore()


def length(tensors: Gradient) -> Tensor:
    """Return the norm of all the tensors together, a float64 scalar."""
    present = [t for t in tensors if t is not None]
    if not present:
        return torch.zeros((), dtype=torch.float64)
    device = present[0].device
    # Per tensor at least in float32, across them in float64.
    norms = [torch.linalg.vector_norm(t.detach(), dtype=torch.promote_types(t.dtype, torch.float32)) for t in present]
    together: Tensor = torch.linalg.vector_norm(torch.stack([n.to(device, torch.float64) for n in norms]))
    return together
