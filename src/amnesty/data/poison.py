"""Wrong labels planted on purpose, so that forgetting them can be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from amnesty.errors import DataError
from amnesty.seeds import generator


def mislabel(labels: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Return a wrong label for each example, uniform over the other ``classes - 1``, shape [n].

    Raises:
        DataError: fewer than two classes, or labels outside them.

    Example:
        >>> wrong = mislabel(torch.tensor([0, 1, 2]), classes=3)
        >>> (wrong != torch.tensor([0, 1, 2])).all().item()
        True
    """
    if classes < 2 or bool(((labels < 0) | (labels >= classes)).any()):
        raise DataError(f"Wrong labels need at least 2 classes and labels in [0, {classes}).")
    shift = torch.randint(1, classes, labels.shape, generator=generator(seed, "mislabel"))
    return (labels + shift) % classes
