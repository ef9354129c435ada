"""Models whose answers a test writes down, and tasks made of numbered examples."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.data import Examples
from amnesty.tasks import Classification


class Lookup(nn.Module):
    """Answers example number i with row i of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.table[numbers[:, 0].long()]


def numbered(numbers: Any, labels: Any, **more: Any) -> Examples:
    return Examples(torch.as_tensor(numbers, dtype=torch.float32)[:, None], torch.as_tensor(labels), **more)


def lookup_task(parts: Mapping[str, tuple[Tensor, Tensor]], device: torch.device, **more: Any) -> Classification:
    """A task whose model gives the logits of each part, name -> (logits, labels)."""
    start, data = 0, {}
    for name, (logits, labels) in parts.items():
        data[name] = numbered(range(start, start + len(logits)), labels)
        start += len(logits)
    table = torch.cat([logits for logits, _ in parts.values()])
    return Classification(Lookup(table).to(device), **data, **more)


def with_table(task: Classification, table: Tensor) -> Lookup:
    """Another model of the same task."""
    return Lookup(table.to(task.model.table.device))


def confident(labels: Tensor, classes: int, margin: float | Tensor = 4.0) -> Tensor:
    """Logits that answer ``labels``."""
    return nn.functional.one_hot(labels, classes).float() * torch.as_tensor(margin).reshape(-1, 1)
