"""How sure a model is of a label: the one number that membership tests and the unseen-like player both read."""

from __future__ import annotations

import torch
from torch import Tensor


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``z_y - logsumexp_{j != y} z_j``, the log-odds of the label, shape [n], of the logits' type.

    Taken from logits, shape [n, C], since a softmax in float32 rounds confidences to 1 beyond a margin of 17.
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.logsumexp(dim=1)


def excess(found: Tensor, unseen: Tensor) -> Tensor:
    """Return how far each margin is above that of its like among unseen examples, 0 where it is not; shape [B].

    The k-th smallest of the B margins ``found`` is compared with the (k - 1/2)/B quantile of the margins
    ``unseen``, shape [m], sorted: easy examples with easy ones, hard ones with hard ones.
    """
    order = found.detach().argsort()
    levels = (torch.arange(len(found), device=found.device, dtype=found.dtype) + 0.5) / len(found)
    target = torch.empty_like(found)
    target[order] = torch.quantile(unseen, levels)
    return (found - target.detach()).clamp(min=0.0)
