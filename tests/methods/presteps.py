"""What a method does to the model before it trains, and how it asks for the training."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from amnesty import Classification
from amnesty.methods import Method
from amnesty.training import Loop


def only_before_training(
    task: Classification, method: Method, seed: int = 0, **given: Any
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Run a method whose loop never trains; return its model and the arguments of each call."""
    loop, calls = Loop(copy.deepcopy(task.model), task.sources, seed, **given), []

    def run(players, **arguments):
        loop._frozen.restore()
        calls.append({"players": players, **arguments, "moving": moving(loop.model)})

    loop.run = run
    method.run(task, loop)
    return loop.model, calls


def moving(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}
