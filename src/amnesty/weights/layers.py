"""Which layers a method works on, in models of any kind: kernels, the first layer, the last stages."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from amnesty.errors import InvalidInputError, ModelError
from amnesty.weights.measuring import owner_of
from amnesty.weights.parts import classifier_of, execution_order, is_norm, stages


def layer_parameters(model: nn.Module) -> list[str]:
    """Return the names of weights and biases of linear and convolution layers.

    >>> layer_parameters(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    ['0.weight', '0.bias']
    """
    return [name for name, _ in model.named_parameters() if isinstance(owner_of(model, name)[0], nn.Linear | _ConvNd)]


def kernels(model: nn.Module, probe: torch.Tensor) -> list[str]:
    """Return the names of the weights of which a network mostly consists, without those of its classifier.

    Those of its convolutions. Where these are fewer than two, as in a vision transformer, whose patch embedding is
    one, or in a perceptron, those of its other linear layers too.

    Args:
        model: see `classifier_of`.
        probe: inputs, shape [B, ...].

    Raises:
        ModelError: there is none.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> kernels(net, torch.zeros(1, 1, 2, 2))
    ['0.weight', '2.weight']
    """
    last = f"{classifier_of(model, probe)}.weight"
    weights = [name for name in layer_parameters(model) if name.endswith("weight") and name != last]
    convolutions = [name for name in weights if isinstance(owner_of(model, name)[0], _ConvNd)]
    found = convolutions if len(convolutions) > 1 else weights
    if not found:
        raise ModelError(f"A {type(model).__name__} has no convolution and no linear layer but its classifier.")
    return found


def first_kernel(model: nn.Module, probe: torch.Tensor) -> str:
    """Return the name of the weight of the first convolution in order of use; else of the first layer with a matrix.

    Raises:
        ModelError: there is none.

    >>> first_kernel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 2, 2))
    '1.weight'
    """
    parameters = dict(model.named_parameters())
    order = [(f"{home}.weight", model.get_submodule(home)) for home in execution_order(model, probe)]
    order = [(name.removeprefix("."), module) for name, module in order if name.removeprefix(".") in parameters]
    for kind in (_ConvNd, nn.Module):
        for name, module in order:
            if isinstance(module, kind) and not is_norm(module) and parameters[name].dim() > 1:
                return name
    raise ModelError(f"A {type(model).__name__} has no layer with a weight matrix or a kernel.")


def last_stages(model: nn.Module, probe: torch.Tensor, count: int) -> tuple[str, ...]:
    """Return the names of the parameters of the classifier and of the last ``count`` of the `stages` before it.

    Raises:
        InvalidInputError: there are not so many stages.

    >>> net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    >>> last_stages(net, torch.zeros(1, 2), 1)
    ('0.weight', '2.weight')
    """
    *before, classifier = stages(model, probe)
    if count > len(before):
        raise InvalidInputError(
            f"`stages` must be at most {len(before)}, as many as this {type(model).__name__} has before its "
            f"classifier, found {count}."
        )
    return (*(name for stage in before[len(before) - count :] for name in stage), *classifier)
