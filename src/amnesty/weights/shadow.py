"""One class more than a classifier has, for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.errors import ModelError
from amnesty.tasks import device_of
from amnesty.tasks.labelled import logits
from amnesty.weights.measuring import measuring
from amnesty.weights.parts import classifier_of

_NAME = "shadow"


def linear_classifier(model: nn.Module, probe: Tensor) -> str:
    """Return the name of the linear layer whose outputs are the logits, one by one: `shadow_class` can add one.

    Args:
        model: left as it is.
        probe: inputs, shape [B, ...].

    Raises:
        ModelError: the classifier is another kind of layer, or its outputs are pooled, normalised or selected
            afterwards. (Scaling each of them does no harm.)
    """
    name = classifier_of(model, probe)
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise ModelError(
            f"A class can be added to a `torch.nn.Linear` only; the classifier {name!r} of this model is a "
            f"{type(layer).__name__}."
        )
    inputs = probe.to(device_of(model))
    try:
        with measuring(model):
            before = logits(model(inputs))
            with shadow_class(model, name, torch.Generator()):
                after = logits(model(inputs))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelError(f"The model cannot have one class more than its classifier {name!r} has: {error}") from error
    if after.shape != (len(before), before.shape[1] + 1) or not torch.allclose(after[:, :-1], before, atol=1e-5):
        raise ModelError(
            f"The logits, shape {list(before.shape)}, are not the outputs of the classifier {name!r} one by one: "
            f"with an output more the model returns {list(after.shape)}, or changes the others."
        )
    return name


@contextmanager
def shadow_class(model: nn.Module, classifier: str, generator: torch.Generator) -> Iterator[nn.Linear]:
    """Let a linear ``classifier`` have one output more, behind the others, and none any more afterwards.

    The classifier stays what it is. The new row is a layer of its own beside it, whose weights are parameters of the
    model meanwhile, drawn from U(-b, b), ``b = 1 / sqrt(inputs)``, PyTorch's default.

    Args:
        model: changed in place.
        classifier: name of the layer; see `linear_classifier`.
        generator: on the CPU.
    """
    layer: Any = model.get_submodule(classifier)
    weight: Tensor = layer.weight
    shadow = nn.Linear(layer.in_features, 1, bias=layer.bias is not None, device="meta").to_empty(device="cpu")
    bound = 1 / math.sqrt(layer.in_features)
    with torch.no_grad():
        for p in shadow.parameters():
            p.uniform_(-bound, bound, generator=generator)
    shadow.to(weight)

    def widen(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Tensor:
        return torch.cat([output, shadow(*args, **kwargs)], dim=-1)

    layer.add_module(_NAME, shadow)
    handle = layer.register_forward_hook(widen, with_kwargs=True)
    try:
        yield shadow
    finally:
        handle.remove()
        delattr(layer, _NAME)
