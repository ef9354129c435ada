"""Steps after which few weights differ from what they were."""

from __future__ import annotations

import torch
from torch import nn

from amnesty.errors import InvalidInputError
from amnesty.training.hooks import Hook
from amnesty.training.masks import Masks


def hold_the_least(model: nn.Module, share: float, steps: int, masks: Masks | None = None) -> Hook:
    """Pull every weight back towards what it is now, after every step, so that some are held there.

    With ``delta = theta - theta_0`` after step t of n: ``k = floor(share * (1 - t / n) * d)`` of the d weights are to
    be held; tau is the k-th smallest ``|delta|``, 0 where k = 0, and
    ``delta <- sign(delta) * max(|delta| - tau, 0)``, the proximal step of ``tau * sum |delta|``.

    Args:
        model: whose trainable weights count, all of them in one threshold.
        share: of the weights held at the beginning, in [0, 1]; it falls linearly and is 0 after the last step.
        steps: n, of the whole run.
        masks: where weights may move; only these count.

    Raises:
        InvalidInputError: ``share`` is outside [0, 1], or ``steps`` is below 1.

    Source: Fan et al., SalUn, ICLR 2024, arXiv:2310.12508 (its variant with a soft threshold). The published code
    takes the anchor anew in every epoch, holds k within an epoch, and fails for k = 0.
    """
    if not 0 <= share <= 1 or steps < 1:
        raise InvalidInputError(f"`share` must be in [0, 1] and `steps` at least 1, found {share} and {steps}.")
    first = [
        (p, p.detach().clone(), (masks or {}).get(name)) for name, p in model.named_parameters() if p.requires_grad
    ]
    done = [0]

    @torch.no_grad()
    def after_step() -> None:
        done[0] += 1
        sizes = [(p - start).abs() for p, start, _ in first]
        home = sizes[0].device
        counted = [
            (size if mask is None else size[mask]).flatten().to(home)
            for size, (*_, mask) in zip(sizes, first, strict=True)
        ]
        flat = torch.cat(counted)
        k = int(share * (1 - done[0] / steps) * len(flat))
        if k < 1:
            return
        tau = flat.kthvalue(k).values
        for size, (p, start, _) in zip(sizes, first, strict=True):
            here = tau.to(p)
            p.copy_(torch.where(size > here, p - here * (p - start).sign(), start))

    return Hook(
        after_step=after_step,
        state=lambda: done[0],
        restore=lambda found: done.__setitem__(0, found),
    )
