"""Pixels, and the nearest wrong classes of a whole part of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amnesty.data import Batches
from amnesty.errors import DataError
from amnesty.tasks.base import Source, device_of
from amnesty.tasks.forgetting import crossed
from amnesty.tasks.labelled import unpack

_SLACK = 0.5 / 255  # half a grey level: what normalising and back may lose


@dataclass(frozen=True)
class Pixels:
    """How inputs become pixels in [0, 1]: ``inputs * deviation + mean``, channel by channel.

    Args:
        mean, deviation: one number for all channels (those of dimension 1), or one for each.
    """

    mean: Sequence[float] = (0.0,)
    deviation: Sequence[float] = (1.0,)

    def beside(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation to broadcast with ``inputs``, shape [B, channels, ...], on their device.

        Raises:
            DataError: the inputs are no numbers with a fraction, or have another number of channels.
        """
        if not inputs.is_floating_point() or inputs.dim() < 2:
            raise DataError(
                f"Pixels must be floats of shape [B, channels, ...], found {inputs.dtype}, {list(inputs.shape)}."
            )
        for name, values in (("mean", self.mean), ("std", self.deviation)):
            if len(values) not in (1, inputs.shape[1]):
                raise DataError(
                    f"`{name}` has {len(values)} values for inputs of {inputs.shape[1]} channels, shape "
                    f"{list(inputs.shape)}."
                )
        shape = (-1, *[1] * (inputs.dim() - 2))
        mean, deviation = (torch.tensor(values, dtype=torch.float32) for values in (self.mean, self.deviation))
        return mean.view(shape).to(inputs), deviation.view(shape).to(inputs)

    def check(self, source: Source, name: str) -> None:
        """Read a part once; raise `DataError` if its pixels are not in [0, 1]."""
        lowest, highest = torch.inf, -torch.inf
        for batch in Batches(source, name=name).iterate():
            inputs, _ = unpack(batch)
            mean, deviation = self.beside(inputs)
            low, high = (inputs * deviation + mean).aminmax()
            lowest, highest = min(lowest, low.item()), max(highest, high.item())
        if lowest < -_SLACK or highest > 1 + _SLACK:
            raise DataError(
                f"Pixels of the {name} set are in [{lowest:.3g}, {highest:.3g}] where [0, 1] was expected: the step "
                "towards the boundary is taken in pixels. If your data pipeline normalises images, give the `mean` "
                "and `std` of each channel that it uses."
            )


def nearest_wrong_labels(
    teacher: nn.Module, source: Source, radius: float, pixels: Pixels, batch_size: int = 256
) -> Tensor:
    """Return the nearest wrong class of every example, shape [n], in the order of the data.

    See `amnesty.tasks.nearest_wrong`, which asks the frozen ``teacher`` anew for each batch.
    """
    device, found = device_of(teacher), []
    for batch in Batches(source, batch_size).iterate():
        inputs, labels = (x.to(device) for x in unpack(batch))
        with torch.autocast(device.type, enabled=False):  # that of a caller would decide close calls
            found.append(crossed(teacher, inputs, labels, radius, *pixels.beside(inputs)).cpu())
    return torch.cat(found)
