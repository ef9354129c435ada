"""Networks of the usual shapes, small, and what must be as before after one was looked at."""

import random
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.data import Examples


def seeded(make, seed=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


class Attending(nn.Module):
    """Attention by `scaled_dot_product_attention`, as in current vision transformers."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # Registered in another order than that of use.
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.attn = Attending(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A vision transformer for 6 x 6 images, in the layout of timm's: tokens on the root, a list of blocks."""

    def __init__(self, width: int = 8, depth: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 10, width))
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.blocks = nn.ModuleList(Layer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.spare = nn.Linear(width, classes)  # never used

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)) + self.shortcut(x))


class Residual(nn.Module):
    """A residual network in the layout of torchvision's: groups of blocks beside each other."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8), Block(8, 8))
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def transformer() -> Transformer:
    return seeded(Transformer)


def residual() -> Residual:
    """With running statistics that are not those of a new model."""
    model = seeded(Residual)
    seeded(lambda: [model(torch.randn(16, 1, 6, 6)) for _ in range(3)])
    return model.eval()


def examples(count: int = 20, classes: int = 3, seed: int = 0, side: int = 6) -> Examples:
    draw = torch.Generator().manual_seed(seed)
    return Examples(
        torch.randn(count, 1, side, side, generator=draw), torch.randint(classes, (count,), generator=draw)
    )


@contextmanager
def untouched(model: nn.Module, weights: bool = True):
    """Fail unless modes, buffers, gradients, flags and random states (and weights) are as before."""
    for k, module in enumerate(model.modules()):
        module.training = k % 2 == 0
    for p in model.parameters():
        p.grad = torch.ones_like(p)

    def state():
        return {
            **{f"buffer {n}": b.clone() for n, b in model.named_buffers()},
            **({f"weight {n}": p.detach().clone() for n, p in model.named_parameters()} if weights else {}),
            **{f"grad {n}": p.grad.clone() for n, p in model.named_parameters()},
            "flags": torch.tensor([p.requires_grad for p in model.parameters()]),
            "modes": torch.tensor([m.training for m in model.modules()]),
            "hooks": torch.tensor([len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]),
            "torch": torch.get_rng_state(),
            "numpy": torch.tensor(np.random.get_state()[1].astype(np.int64)),
            "python": torch.tensor(random.getstate()[1]),
        }

    before = state()
    yield
    after = state()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
