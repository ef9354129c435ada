"""One change of the weights, without training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amnesty.errors import NonFiniteError
from amnesty.training.loop import Loop
from amnesty.training.masks import Masks


def add(loop: Loop, change: Mapping[str, Tensor], masks: Masks) -> None:
    """Add a change to the weights of ``loop.model``, in place, and tell the history how much it was.

    Args:
        loop: whose model is changed.
        change: name of a parameter -> what is added to it, of its shape.
        masks: which coordinates may move, by name; all of a parameter that has none.

    Raises:
        NonFiniteError: the change holds NaN or infinity; nothing has moved.
    """
    parameters = dict(loop.model.named_parameters())
    before = torch.stack([p.detach().norm() for p in parameters.values()]).norm().item()
    for name, delta in change.items():
        if not delta.isfinite().all():
            raise NonFiniteError(f"The edit of {name!r} is not finite; the weights have not moved.", 1, loop.model)
    changed, square = 0, 0.0
    with torch.no_grad():
        for name, delta in change.items():
            kept = delta * masks[name] if name in masks else delta
            parameters[name].add_(kept)
            changed += int((kept != 0).sum())
            square += kept.double().square().sum().item()
    loop.settle()
    count = sum(p.numel() for p in parameters.values())
    loop.note(changed=changed / count, length=square**0.5, relative_length=square**0.5 / max(before, 1e-30))
