"""Surgery: weights drawn anew, in part or whole, and noise on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from amnesty.errors import InvalidInputError, ModelError
from amnesty.seeds import derive, generator, seeded
from amnesty.tasks import device_of
from amnesty.weights.measuring import check_mask, named, owner_of
from amnesty.weights.parts import is_norm

How = Literal["uniform", "normal_fan_out"]
"""How the kernels of linear and convolution layers are drawn; see `renew`."""

_OTHERS = 0.02  # deviation of class tokens and positions, as vision transformers start


@torch.no_grad()
def renew(
    model: nn.Module,
    name: str,
    mask: Tensor | None = None,
    *,
    how: How = "uniform",
    generator: torch.Generator,
) -> None:
    """Draw a parameter anew, as a layer of its kind starts, in place; a frozen one is left alone.

    - Weights of linear and convolution layers (transposed ones too): ``"uniform"``, U(-b, b) with
      ``b = 1 / sqrt(fan_in)``, PyTorch's default, which is Kaiming-uniform with a = sqrt(5);
      ``"normal_fan_out"``, N(0, 2 / fan_out), Kaiming-normal. Fans are those of `torch.nn.init`.
    - Norm layers: weights 1, biases 0; running statistics start again when the whole parameter is renewed.
    - All other biases (``...bias``): 0.
    - What is left, by its shape: matrices, such as those of embeddings and of attention, as ``"uniform"``;
      others, such as class tokens and positions, N(0, 0.02^2).

    Args:
        model: changed in place.
        name: of the parameter.
        mask: bool, the parameter's shape, True where it is renewed; by default everywhere. What is drawn for an
            entry does not depend on it.
        how: see above.
        generator: on the CPU, whatever the model's device.

    Raises:
        UnknownNameError: there is no parameter of that name.
        ShapeError: the mask is not bool or of another shape.
        InvalidInputError: unknown ``how``.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> renew(model, "bias", torch.tensor([True, False]), generator=torch.Generator())
        >>> model.bias[0].item(), model.bias[1].item() != 0
        (0.0, True)
    """
    if how not in get_args(How):
        raise InvalidInputError(f"`how` must be one of {', '.join(get_args(How))}, found {how!r}.")
    parameter = named(model, [name])[name]
    if mask is not None:
        check_mask(name, parameter, mask)
    if not parameter.requires_grad:
        return
    module, attribute = owner_of(model, name)
    fresh = _fresh(module, attribute, parameter, how, generator).to(parameter)
    parameter.copy_(fresh if mask is None else torch.where(mask.to(parameter.device), fresh, parameter))
    if mask is None or bool(mask.all()):
        _restart(module)


def _fresh(module: nn.Module, attribute: str, parameter: Tensor, how: How, generator: torch.Generator) -> Tensor:
    if is_norm(module):
        return torch.full(parameter.shape, 0.0 if attribute.endswith("bias") else 1.0)
    if attribute.endswith("bias"):
        return torch.zeros(parameter.shape)
    kernel = attribute == "weight" and isinstance(module, nn.Linear | _ConvNd)
    fresh = torch.empty(parameter.shape)
    if not kernel and parameter.dim() != 2:
        return fresh.normal_(0.0, _OTHERS, generator=generator)
    if kernel and how == "normal_fan_out":
        fan_out = parameter.numel() / parameter.shape[1]
        return fresh.normal_(0.0, math.sqrt(2 / fan_out), generator=generator)
    bound = 1 / math.sqrt(parameter.numel() / parameter.shape[0])
    return fresh.uniform_(-bound, bound, generator=generator)


def _restart(module: nn.Module) -> None:
    restart = getattr(module, "reset_running_stats", None)
    if is_norm(module) and callable(restart):
        restart()


@torch.no_grad()
def renew_modules(model: nn.Module, names: Iterable[str], seed: int) -> None:
    """Draw parameters anew in place, each by its module's own ``reset_parameters`` where there is one.

    Else by `renew`. Only the parameters named change, and no frozen one; where these are all of a module's own
    parameters its buffers start again too, the running statistics of batch norm among them. What a module draws
    depends on the seed and its name only, not on which others are renewed, nor on the device.

    Args:
        model: changed in place.
        names: of parameters, such as those of a stage; see `stages`.
        seed: of what is drawn.

    Raises:
        UnknownNameError: there is no parameter of a name given.
    """
    homes: dict[str, dict[str, str]] = {}
    for name, parameter in named(model, names).items():
        home, _, attribute = name.rpartition(".")
        if parameter.requires_grad:
            homes.setdefault(home, {})[attribute] = name
    for home, own in homes.items():
        module = model.get_submodule(home)
        if not hasattr(module, "reset_parameters"):
            for attribute, name in own.items():
                renew(model, name, generator=generator(seed, "renew", home, attribute))
            continue
        with seeded(derive(seed, "renew", home), torch.device("cpu")):
            fresh: Any = copy.deepcopy(module).cpu()
            fresh.reset_parameters()
        for attribute in own:
            module.get_parameter(attribute).copy_(fresh.get_parameter(attribute))
        if own.keys() == dict(module.named_parameters(recurse=False)).keys():
            for attribute, buffer in module.named_buffers(recurse=False):
                buffer.copy_(fresh.get_buffer(attribute))


@torch.no_grad()
def add_noise(model: nn.Module, names: Iterable[str], sigma: float, generator: torch.Generator) -> None:
    """Add N(0, sigma^2) to every entry of the parameters named, in place; frozen ones are left alone.

    Args:
        model: changed in place.
        names: of parameters; they are taken in the model's order.
        sigma: the deviation, at least 0.
        generator: on the CPU, whatever the model's device.

    Raises:
        UnknownNameError: there is no parameter of a name given.
        InvalidInputError: ``sigma`` is negative or not finite.
    """
    if not 0 <= sigma < math.inf:
        raise InvalidInputError(f"`sigma` must be at least 0 and finite, found {sigma}.")
    for parameter in named(model, names).values():
        if parameter.requires_grad:
            noise = torch.empty(parameter.shape).normal_(generator=generator)
            parameter.add_(noise.to(parameter), alpha=sigma)


def reinitialised(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy whose every parameter is as new, by its module's own ``reset_parameters``.

    Those of batch norm reset its running statistics too. Buffers of modules without that method, such as the
    constants of a normalisation, are kept.

    Raises:
        ModelError: a module holds parameters of its own but no ``reset_parameters``, or some parameters are
            frozen, so that nobody can tell whether they are to be new. Give a function that makes a new model.
    """
    fresh = copy.deepcopy(model)
    stuck = [
        name or type(module).__name__
        for name, module in fresh.named_modules()
        if list(module.parameters(recurse=False)) and not hasattr(module, "reset_parameters")
    ]
    if stuck:
        raise ModelError(
            f"Cannot initialise {', '.join(stuck[:5])} afresh: no `reset_parameters`. Add that method, or pass "
            "`fresh=`, a function that makes a new model."
        )
    frozen = [name for name, p in fresh.named_parameters() if not p.requires_grad]
    if frozen:
        raise ModelError(
            f"{len(frozen)} parameters are frozen, such as {frozen[0]!r}: is training to start from their values or "
            "from new ones? Pass `fresh=`, a function that makes the model to train."
        )
    home = device_of(fresh)
    with seeded(derive(seed, "initialisation"), torch.device("cpu")):
        fresh.cpu()  # so that a seed gives the same weights wherever the model lives
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh.to(home)
