"""Inputs that a model takes for anything but a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import NonFiniteError
from amnesty.tasks.base import device_of
from amnesty.tasks.labelled import logits


def impairing_noise(
    teacher: nn.Module,
    label: int,
    shape: Sequence[int],
    *,
    steps: int = 25,
    lr: float = 0.1,
    penalty: float = 0.1,
    generator: torch.Generator,
) -> Tensor:
    """Return inputs N, of ``shape`` [B, ...], with a high cross-entropy to ``label``, on the CPU.

    From N(0, 1), ``steps`` steps of Adam on ``-CE(z(N), label) + penalty * mean_b sum N_b^2``. N lies where the
    model's inputs do, without bounds.

    Args:
        teacher: frozen; see `amnesty.tasks.frozen`.
        label: the class that the noise is to be anything but.
        shape: of the noise.
        steps: of Adam.
        lr: of Adam.
        penalty: see above.
        generator: on the CPU.

    Raises:
        NonFiniteError: the noise diverged.

    Source: Tarun et al., UNSIR, 2023, arXiv:2111.08947, Section IV. Published code learns the noise on a model in
    training mode, whose gradients it leaves to the first impairing step.
    """
    device = device_of(teacher)
    noise = torch.randn(tuple(shape), generator=generator).to(device).requires_grad_()
    target = torch.full((len(noise),), label, device=device)
    adam = torch.optim.Adam([noise], lr)
    for _ in range(steps):
        with torch.autocast(device.type, enabled=False):
            far = F.cross_entropy(logits(teacher(noise)), target)
            loss = penalty * noise.square().flatten(1).sum(dim=1).mean() - far
            (noise.grad,) = torch.autograd.grad(loss, noise)  # a caller's autocast reaches into backward passes too
        adam.step()
    if not noise.isfinite().all():
        raise NonFiniteError(f"The noise against class {label} is not finite. A smaller `noise_lr` usually helps.")
    return noise.detach().cpu()
