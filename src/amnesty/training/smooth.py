"""Whether a network's slopes jump, as those of ReLU do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amnesty.bargaining.kinks import kinks
from amnesty.errors import ModelError
from amnesty.tasks import device_of, logits
from amnesty.weights.measuring import measuring


def check_smooth(model: nn.Module, probe: Tensor, what: str) -> None:
    """Raise `ModelError` if the slopes of ``model`` jump on a batch of inputs; ``what`` needs them not to."""
    with measuring(model, 0), torch.enable_grad():
        found = kinks(logits(model(probe.to(device_of(model)))).sum())
    if found:
        raise ModelError(
            f"{what} needs a network whose slopes do not jump, but this one has {', '.join(found)}. Use "
            "curvature='exact', or 'none'."
        )
