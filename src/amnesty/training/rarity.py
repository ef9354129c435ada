"""Classes that count more because there is less of them."""

from __future__ import annotations

import torch
from torch import Tensor


def rarity(labels: Tensor, classes: int, power: float = 1.0) -> Tensor:
    """Return a weight for each of C classes, shape [C]: ``(n / (C n_c))^power``, and 0 where there is no example.

    With power 1 every class that there is counts alike.

    Args:
        labels: shape [n], integers.
        classes: C.
        power: 0 counts every example alike.

    >>> rarity(torch.tensor([0, 0, 0, 2]), 3)
    tensor([0.4444, 0.0000, 1.3333])
    """
    count = torch.bincount(labels, minlength=classes).float()
    return torch.where(count > 0, (len(labels) / (classes * count)) ** power, 0.0)
