"""Slow references: one example and one class at a time, by the definitions."""

import torch
from torch import nn
from torch.nn import functional as F


def logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x[None])[0]


def gradient(model: nn.Module, value: torch.Tensor) -> dict[str, torch.Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    pairs = zip(named.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def gradients(model: nn.Module, data, label=None) -> list[dict[str, torch.Tensor]]:
    """Of the cross-entropy of each example, in evaluation mode."""
    model.eval()
    return [gradient(model, F.cross_entropy(logits(model, x)[None], y[None])) for x, y in zip(*data[:], strict=True)]


def squares(model: nn.Module, data, kind: str) -> dict[str, torch.Tensor]:
    """The definitions of `squared_gradients`, but for the drawn labels."""
    model.eval()
    total: dict[str, torch.Tensor] = {}

    def add(found, weight=1.0):
        for name, value in found.items():
            total[name] = total.get(name, 0) + weight * value / len(data)

    for x, y in zip(*data[:], strict=True):
        z = logits(model, x)
        if kind == "norm":
            add({name: g.abs() for name, g in gradient(model, (z**2).sum()).items()})
        elif kind == "true":
            add({name: g**2 for name, g in gradient(model, -z.log_softmax(0)[y]).items()})
        else:
            for c in range(len(z)):
                chance = z.softmax(0)[c].item()
                add({name: g**2 for name, g in gradient(model, -z.log_softmax(0)[c]).items()}, chance)
    return total


def flat(named: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in named.values()]).double()
