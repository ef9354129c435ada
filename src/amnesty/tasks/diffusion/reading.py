"""What the layers that read prompts get of them, for edits of these layers in closed form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError
from amnesty.tasks.base import device_of, evaluating
from amnesty.tasks.diffusion.concepts import Prompt
from amnesty.tasks.diffusion.conditions import Conditions
from amnesty.tasks.diffusion.denoiser import Denoiser, Question
from amnesty.tasks.diffusion.parts import Parts

_AT_ONCE = 16  # prompts


def readers(model: Denoiser) -> dict[str, nn.Linear]:
    """Return the linear layers that get nothing but what is told of a prompt, by name.

    Raises:
        InvalidInputError: there are none, as in models that know classes.
    """
    pattern = model.family.readers
    found = {
        name: module
        for name, module in model.named_modules()
        if pattern is not None and re.fullmatch(rf"backbone\.(?:{pattern})", name) and isinstance(module, nn.Linear)
    }
    if not found:
        raise InvalidInputError(
            f"A {model.family.title} has no plain linear layers that read texts alone, or there are adapters on them."
        )
    return found


def reading(model: Denoiser, question: Question, conditions: Conditions, rows: Tensor) -> dict[str, Tensor]:
    """Return the inputs of the layers that read prompts, shape [n, L, d], on the CPU; see `readers`.

    Args:
        model: is run once for each few prompts.
        question: of which the first image and time are asked about.
        conditions: of prompts.
        rows: of the prompts, shape [n].
    """
    device, found = device_of(model), dict[str, list[Tensor]]()

    def remember(name: str) -> Any:
        return lambda module, inputs: found.setdefault(name, []).append(inputs[0].detach().float().cpu())

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in readers(model).items()]
    try:
        with evaluating(model):
            for some in torch.split(rows, _AT_ONCE):
                images = question.images[:1].expand(len(some), -1, -1, -1).to(device)
                times = question.times[:1].expand(len(some)).to(device)
                model.predict(images, times, conditions(some, device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(inputs) for name, inputs in found.items()}


def last_tokens(parts: Parts, prompts: Sequence[Prompt | None]) -> Tensor:
    """Return the position of each prompt's last token before the end, shape [n]; of no prompt the first."""
    tokenizer = parts.part("tokenizer")
    texts = ["" if prompt is None else str(prompt) for prompt in prompts]
    return torch.tensor([max(0, len(tokenizer(text)["input_ids"]) - 2) for text in texts])
