"""A network to measure on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.first_norm(self.first(x)))
        return self.activation(self.second_norm(self.second(y)) + self.shortcut(x))  # type: ignore[no-any-return]


class Normalise(nn.Module):
    """Takes pixels in [0, 1]; the mean and deviation of CIFAR-10's channels are part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class ResNet(nn.Sequential):
    """A residual network of three stages for 32 x 32 pixels, with batch norm; 0.7 million parameters by default."""

    def __init__(
        self,
        widths: tuple[int, int, int] = (32, 64, 128),
        blocks: int = 2,
        stem_stride: int = 1,
        classes: int = 10,
        activation: Activation = nn.ReLU,
    ) -> None:
        layers: list[nn.Module] = [
            Normalise(),
            nn.Conv2d(3, widths[0], 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            activation(),
        ]
        inputs = widths[0]
        for outputs, stride in zip(widths, (1, 2, 2), strict=True):
            for k in range(blocks):
                layers.append(Block(inputs, outputs, stride if k == 0 else 1, activation))
                inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
