"""What a run is, so that a checkpoint of one is never taken for that of another."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence, Set
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from amnesty.data import Batches
from amnesty.errors import CheckpointError
from amnesty.seeds import seeded
from amnesty.tasks import Source, device_of
from amnesty.training.masks import Masks
from amnesty.training.states import model_hash, tensors_hash


def identity(
    method: Any, model: nn.Module, sources: Mapping[str, Source], masks: Masks, device: torch.device, **settings: Any
) -> dict[str, str]:
    """Return what decides, to the bit, what a run ends in: one text for each thing. The data is read once.

    Args:
        method: a dataclass; its fields are its settings.
        model: as it is before the run.
        sources: parts of the data that the method may read.
        masks: of the run.
        device: where it trains.
        **settings: further ones, by name.

    Raises:
        CheckpointError: a part is a ``DataLoader``.
    """
    found = {"method": _name(type(method)), "architecture": _name(type(model))}
    found |= {f"setting {f.name}": described(getattr(method, f.name)) for f in dataclasses.fields(method)}
    found |= {name: described(value) for name, value in settings.items()}
    found |= {"model": _hashed(model_hash(model)), "masks": _hashed(tensors_hash(dict(masks)))}
    found |= {f"{part} set": _hashed(_data_hash(part, source, model)) for part, source in sources.items()}
    versions = {"torch": torch.__version__, "amnesty": version("amnesty")}
    return found | versions | {"device": device.type, **_surroundings(device)}


SOFT = ("threads", "processor")
"""What may differ between two sittings; the last bits may then differ too."""


def differences(before: Mapping[str, str], now: Mapping[str, str], soft: bool = False) -> list[str]:
    """Return in words what differs between two identities: what must not, or with ``soft`` what may."""
    found = []
    for name in dict.fromkeys((*before, *now)):
        one, other = before.get(name, "absent"), now.get(name, "absent")
        if one != other and (name in SOFT) == soft:
            hashed = one.startswith(_HASH) and other.startswith(_HASH)
            found.append(f"the {name} is another" if hashed else f"{name} was {one}, is {other}")
    return found


_HASH = "sha256:"


def _hashed(digest: str) -> str:
    return _HASH + digest


def _surroundings(device: torch.device) -> dict[str, str]:
    if device.type == "cuda":
        return {"processor": torch.cuda.get_device_name(device)}
    return {"threads": str(torch.get_num_threads()), "processor": torch.backends.cpu.get_cpu_capability()}


def _data_hash(part: str, source: Source, model: nn.Module) -> str:
    if isinstance(source, DataLoader):
        raise CheckpointError(
            f"The {part} set is a `DataLoader`, whose order nobody can take up in the middle: a run on it cannot be "
            "saved. Give the data set itself, or run without checkpoints."
        )
    digest = hashlib.sha256()
    with seeded(0, device_of(model)):
        for batch in Batches(source, name=part).iterate():
            for tensor in filter(torch.is_tensor, tree_leaves(batch)):
                digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def described(value: Any) -> str:
    """Return a text that is the same for equal settings in every process: no address is in it.

    >>> described({"rule": len, "betas": (0.9, 1)})
    "{'rule': builtins.len, 'betas': [0.9, 1]}"
    """
    return _described(value, ())


def _described(value: Any, outer: tuple[int, ...]) -> str:
    if id(value) in outer or len(outer) > _DEEP:
        return "..."
    inner: Inner = functools.partial(_described, outer=(*outer, id(value)))
    if isinstance(value, Tensor | np.ndarray):
        return _hashed(tensors_hash({"": torch.as_tensor(value)}))
    if isinstance(value, Mapping | Set | Sequence) and not isinstance(value, str | bytes):
        return _described_items(value, inner)
    if isinstance(value, functools.partial) or hasattr(value, "__qualname__"):
        return _described_callable(value, inner)
    if not hasattr(value, "__dict__"):
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    weights = [model_hash(value)] if isinstance(value, nn.Module) else []
    items = [f"{key}={inner(item)}" for key, item in vars(value).items() if not weights or not key.startswith("_")]
    return f"{_name(type(value))}({', '.join(weights + items)})"


_DEEP = 8
Inner = Callable[[Any], str]


def _described_items(value: Any, inner: Inner) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inner(key)}: {inner(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(map(inner, value))) + "}"
    return "[" + ", ".join(map(inner, value)) + "]"


def _described_callable(value: Any, inner: Inner) -> str:
    if isinstance(value, functools.partial):
        return f"partial({inner(value.func)}, {inner(value.args)}, {inner(value.keywords)})"
    return _name(value)  # not what a function closes over, which may change while it runs


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
