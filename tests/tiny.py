"""A task that trains in a second: three blobs of 6 x 6 images, a forget set of a tenth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amnesty import Classification
from amnesty.data import Examples, Fraction, split

CLASSES = 3


def blobs(count: int = 120, seed: int = 0) -> Examples:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, 1, 6, 6, generator=torch.Generator().manual_seed(99))
    images = centres[labels] + 0.7 * torch.randn(count, 1, 6, 6, generator=random)
    return Examples(images, labels)


def _seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return make()


def conv_net() -> nn.Sequential:
    return _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(128, CLASSES),
        )
    )


def mlp() -> nn.Sequential:
    return _seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, CLASSES)))


class Attention(nn.Module):
    """A transformer with a class token that has no ``reset_parameters``."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.embed = nn.Linear(6, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x[:, 0])
        return self.head(self.layer(torch.cat([self.token.expand(len(x), -1, -1), rows], 1))[:, 0])


def attention() -> Attention:
    return _seeded(Attention)


MODELS = {"conv": conv_net, "mlp": mlp, "attention": attention}


def task(model: nn.Module | None = None, count: int = 120, forget: float = 0.1) -> Classification:
    data = blobs(count)
    parts = split(data, Fraction(forget, seed=1)).parts(data)
    return Classification(
        conv_net() if model is None else model,
        forget=parts["forget"],
        retain=parts["retain"],
        holdout=blobs(60, seed=5),
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
