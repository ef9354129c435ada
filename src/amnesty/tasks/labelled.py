"""Labelled batches, and what a classifier says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.data import INPUT_KEYS, LABEL_KEYS, Batches, input_and_label
from amnesty.errors import DataError, ModelError
from amnesty.seeds import seeded
from amnesty.tasks.base import Source, device_of, evaluating
from amnesty.tasks.inspection import Inspection


@dataclass(frozen=True)
class Predictions:
    """What a model says of a part of the data, in its order: logits, shape [n, C], float32, and labels, shape [n]."""

    logits: Tensor
    labels: Tensor


def predict(
    model: nn.Module, source: Source, batch_size: int = 512, change: Callable[[Tensor], Tensor] | None = None
) -> Predictions:
    """Run ``model`` in evaluation mode, float32, over ``source`` in its order, ``change`` applied to its inputs."""
    device = device_of(model)
    outputs, labels = [], []
    with evaluating(model), seeded(0, device), torch.autocast(device.type, enabled=False):
        for batch in Batches(source, batch_size).iterate():
            inputs, label = unpack(batch)
            inputs = inputs if change is None else change(inputs)
            outputs.append(logits(model(inputs.to(device))).float().cpu())
            labels.append(label.cpu())
    return Predictions(torch.cat(outputs), torch.cat(labels))


def count_classes(model: nn.Module, part: Inspection) -> int:
    """Return the number of classes that ``model`` tells apart on the first examples of a part.

    Raises:
        ModelError: it cannot take them, or does not return logits of shape [B, C] with C of at least 2.
    """
    device = device_of(model)
    inputs = part.probe.to(device)
    try:
        with evaluating(model), seeded(0, device), torch.autocast(device.type, enabled=False):
            output = logits(model(inputs))
    except Exception as error:  # whatever a model may raise
        raise ModelError(
            f"The model cannot take a {part.part} batch of shape {list(inputs.shape)}, {inputs.dtype}: {error}"
        ) from error
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(inputs):
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"The model must return logits of shape [{len(inputs)}, classes], found {found}.")
    if output.shape[1] < 2:
        raise ModelError("The model returns one logit; a model of two classes must return two.")
    return output.shape[1]


def unpack(batch: Any) -> tuple[Tensor, Tensor]:
    """Return inputs, shape [B, ...], and labels, shape [B], of a batch.

    Raises:
        DataError: it is neither a pair nor a mapping with an input and a label, or these are not tensors
            of equal length.
    """
    inputs, labels = input_and_label(batch)
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        found = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise DataError(
            f"A batch must be (inputs, labels) or a mapping with one of {', '.join(INPUT_KEYS)} and one of "
            f"{', '.join(LABEL_KEYS)}, all tensors; found {found}. Convert images to tensors in the data set."
        )
    if labels.dim() != 1 or len(labels) != len(inputs) or labels.is_floating_point():
        raise DataError(
            f"Labels must be one class number per input: shape [{len(inputs)}], integers; found "
            f"{list(labels.shape)}, {labels.dtype}."
        )
    return inputs, labels.to(torch.int64)


def logits(output: Any) -> Tensor:
    """Return the logits of a model's output: itself, or its ``logits`` as Hugging Face models have it."""
    found: Tensor = output if isinstance(output, Tensor) else getattr(output, "logits", output)
    return found
