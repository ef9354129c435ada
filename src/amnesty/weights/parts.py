"""The parts of a network: its norms, its classifier, and its stages in the order in which they are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from amnesty.errors import ModelError
from amnesty.tasks import device_of, to_device
from amnesty.tasks.labelled import logits
from amnesty.weights.measuring import measuring

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # `_NormBase`: batch, synchronised, instance norm
_NORM_CLASS = re.compile(r".*(Batch|Layer|Group|Instance|R[Mm][Ss])Norm(\d?d)?")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_norm(module: nn.Module) -> bool:
    """Say whether this is a normalisation layer: batch, layer, group, instance or RMS norm.

    Told by its type, never by its name in a model: ``downsample.1`` is a batch norm. Libraries that write such a
    layer themselves call the class so: ``LlamaRMSNorm`` is one too, provided that it has no layer within.
    """
    if isinstance(module, _NORMS):
        return True
    return not list(module.children()) and bool(_NORM_CLASS.fullmatch(type(module).__name__))


def norm_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters that belong to normalisation layers; see `is_norm`.

    >>> sorted(norm_parameters(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))))
    ['1.bias', '1.weight']
    """
    own = {id(p) for module in model.modules() if is_norm(module) for p in module.parameters(recurse=False)}
    return {name for name, p in model.named_parameters() if id(p) in own}


def execution_order(model: nn.Module, probe: Tensor) -> list[str]:
    """Return the names of the modules that hold parameters, in the order in which these are first used.

    Parameters are watched themselves, because some modules are never called: attention takes the weights of
    its output layer and computes by itself. What is not used at all, such as heads for training only, is missing.

    Args:
        model: run once in evaluation mode; left as it is.
        probe: a batch of inputs, shape [B, ...].
    """
    return list(dict.fromkeys(name.rpartition(".")[0] for name in _order_of_use(model, probe)[0]))


def classifier_of(model: nn.Module, probe: Tensor) -> str:
    """Return the name of the layer that gives the logits, as it turns out on a batch of inputs.

    The last linear or convolution layer, or other layer with a matrix of its own, whose output is the model's
    logits up to their shape. Where none is (the logits are pooled or scaled afterwards): the last such layer with
    one output a class.

    Args:
        model: run in evaluation mode; left as it is.
        probe: inputs, shape [B, ...].

    Raises:
        ModelError: there is no such layer.

    >>> classifier_of(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.Flatten()), torch.zeros(1, 2))
    '2'
    """
    outputs: dict[str, Any] = {}
    layers = {name: module for name, module in model.named_modules() if _is_layer(module)}
    with ExitStack() as stack:
        for name, module in layers.items():
            handle = module.register_forward_hook(_keep(outputs, name))
            stack.callback(handle.remove)
        order, result = _order_of_use(model, probe)
    for name in reversed(outputs):
        if _equal(outputs[name], result):
            return name
    used = dict.fromkeys(name.rpartition(".")[0] for name in order)
    classes = result.shape[1] if result.dim() == 2 else None
    for name in reversed(used):
        if name in layers and _outputs_of(layers[name]) == classes:
            return name
    tried = [n for n in used if n in layers]
    raise ModelError(
        f"No classifier found in a {type(model).__name__}: no linear or convolution layer returns the logits, shape "
        f"{list(result.shape)}, nor has one output for each of {classes} classes. The last layers used: "
        f"{', '.join(tried[-5:]) or 'none'}."
    )


def stages(model: nn.Module, probe: Tensor) -> tuple[tuple[str, ...], ...]:
    """Cut the network into consecutive stages, in order of use: the names of the parameters of each.

    The last stage is the classifier's. Before it: of a residual network the stem and its groups of blocks
    (``layer1`` ...); of a transformer the embedding and each block; of a plain network each layer with weights.

    The rule: descend from the root, opening the module that has the classifier within. If exactly one module left
    holds a list of blocks, open it, and look again; if several do, each is a stage. If none ever does, open every
    plain `torch.nn.Sequential`. A norm, an embedding, or a parameter with no layer of its own (class token,
    positions) belongs to the stage of what it follows, or to the first one.

    A model that is no chain of layers may tell them itself, by a method ``own_stages()`` of the same value.

    Frozen parameters are named too. Tied ones are named once. Those that the forward pass does not use
    belong to no stage.

    Args:
        model: run in evaluation mode; left as it is.
        probe: a batch of inputs, shape [B, ...].

    Raises:
        ModelError: no classifier is found; see `classifier_of`.

    >>> stages(nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 3)), torch.zeros(1, 2))
    (('0.weight', '0.bias', '1.weight', '1.bias'), ('2.weight', '2.bias'))
    """
    own: Callable[[], tuple[tuple[str, ...], ...]] | None = getattr(model, "own_stages", None)
    if own is not None:
        return own()
    order, _ = _order_of_use(model, probe)
    last = classifier_of(model, probe)
    return _Cut(model, order, last).stages()


class _Cut:
    """The search for `stages`: a list of units, modules or single parameters, that are opened one by one."""

    def __init__(self, model: nn.Module, order: list[str], classifier: str) -> None:
        self.modules = dict(model.named_modules())
        own = {id(p) for p in model.get_submodule(classifier).parameters()}
        parameters = dict(model.named_parameters())
        self.head = [name for name in order if id(parameters[name]) in own]
        self.body = [name for name in order if id(parameters[name]) not in own]
        self.classifier = classifier
        self.minor = norm_parameters(model)  # what cannot be a stage of its own
        for name in self.body:
            home = self.modules[name.rpartition(".")[0]]
            if parameters[name].dim() < 2 or isinstance(home, nn.Embedding):
                self.minor.add(name)
        self.opened: set[str] = set()

    def stages(self) -> tuple[tuple[str, ...], ...]:
        self._open_all()
        found: dict[str, list[str]] = {}
        for name in self.body:
            found.setdefault(self._unit_of(name), []).append(name)
        result: list[list[str]] = []
        started = False  # whether the stage at hand has a layer
        for unit, names in found.items():
            major = unit not in self.body and not self.minor.issuperset(names)
            if not result or (major and started):
                result.append([])
                started = False
            result[-1] += names
            started = started or major
        if result and not started:  # nothing but minor parameters before the classifier
            self.head = result.pop() + self.head
        return (*map(tuple, result), tuple(self.head))

    def _open_all(self) -> None:
        for name in self._ancestors(self.classifier):
            self.opened.add(name)
        blocks = any(self._count_blocks(name) > 1 for name in self.opened)
        while True:
            units = [unit for unit in self._units() if not self.minor.issuperset(self._names(unit))]
            bodies = [unit for unit in units if self._is_body(unit)]
            if len(units) == 1 and self._inner(units[0]):
                blocks = blocks or self._count_blocks(units[0]) > 1
                self.opened.add(units[0])
            elif len(bodies) == 1:
                blocks = blocks or self._count_blocks(bodies[0]) > 0
                self.opened.add(bodies[0])
            else:
                lists = [unit for unit in units if isinstance(self.modules[unit], _CONTAINERS)]
                if bodies or blocks or not lists:
                    return
                self.opened.update(lists)

    def _units(self) -> list[str]:
        """Return the modules that are not opened but lie directly in one that is."""
        found = dict.fromkeys(self._unit_of(name) for name in self.body)
        return [unit for unit in found if unit not in self.body]

    def _unit_of(self, parameter: str) -> str:
        """Return the outermost module around a parameter that is not opened; else the parameter itself."""
        return next((home for home in self._ancestors(parameter) if home not in self.opened), parameter)

    @staticmethod
    def _ancestors(name: str) -> Iterator[str]:
        """Yield the names of the modules around ``name``, the root ``""`` first."""
        parts = name.split(".") if name else []
        return (".".join(parts[:k]) for k in range(len(parts)))

    def _names(self, unit: str) -> list[str]:
        return [name for name in self.body if not unit or name.startswith(unit + ".")]

    def _inner(self, unit: str) -> list[str]:
        """Return the direct submodules that hold parameters in use."""
        homes = {name.rpartition(".")[0] for name in self._names(unit)}
        start = f"{unit}." if unit else ""
        children = (start + name for name, _ in self.modules[unit].named_children())
        return [child for child in children if any(f"{home}.".startswith(f"{child}.") for home in homes)]

    def _count_blocks(self, unit: str) -> int:
        """Return how many of a list of modules, the one with the classifier aside, hold several layers."""
        if not isinstance(self.modules[unit], _CONTAINERS):
            return 0
        members = (child for child in self._inner(unit) if not f"{self.classifier}.".startswith(f"{child}."))
        return sum(len({name.rpartition(".")[0] for name in self._names(child)}) > 1 for child in members)

    def _is_body(self, unit: str) -> bool:
        """Say whether a module is, or has within, a list of blocks."""
        return self._count_blocks(unit) > 0 or any(self._is_body(child) for child in self._inner(unit))


class _Uses(TorchFunctionMode):
    """Notes the parameters that are given to a function which returns a tensor, in order."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names, self.order = names, dict[str, None]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Not what is asked about a parameter: its device, type or shape.
        if any(isinstance(x, Tensor) for x in tree_leaves(result)):
            for x in tree_leaves((args, kwargs)):
                if id(x) in self.names:
                    self.order[self.names[id(x)]] = None
        return result


def _order_of_use(model: nn.Module, probe: Tensor) -> tuple[list[str], Tensor]:
    """Return the names of the parameters in the order of their first use, and the logits."""
    uses = _Uses({id(p): name for name, p in model.named_parameters()})
    with measuring(model), uses:
        result = logits(model(to_device(probe, device_of(model))))
    return list(uses.order), result


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear | _ConvNd):
        return True
    own = module.parameters(recurse=False)
    return not list(module.children()) and not is_norm(module) and any(p.dim() > 1 for p in own)


def _outputs_of(layer: nn.Module) -> int | None:
    for attribute in ("out_features", "out_channels"):
        if isinstance(getattr(layer, attribute, None), int):
            return int(getattr(layer, attribute))
    weight = getattr(layer, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.dim() > 1 else None


def _keep(outputs: dict[str, Any], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        outputs.pop(name, None)  # so that the order is that of the last calls
        outputs[name] = output

    return hook


def _equal(output: Any, result: Tensor) -> bool:
    if not isinstance(output, Tensor) or output.numel() != result.numel():
        return False
    return torch.equal(output.reshape(result.shape).to(result.dtype), result)
