"""The original model while a copy of it is trained: in a file, since hardly anybody asks it then."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

_APART = 64  # bytes that a tensor's place in the file is a multiple of


@contextmanager
def set_aside(model: nn.Module, path: Path) -> Iterator[Callable[[], None]]:
    """Keep a model's tensors in a file meanwhile, and give a function that lets go of what was read of them.

    The model can be used as ever: what is read comes to memory, and stays there until that function is called. It
    must not be changed meanwhile. Afterwards its tensors are in memory again, to the bit, and the file is gone.
    Tensors that are not on the CPU, overlap, or are not laid out in one piece stay where they are, and where the
    system cannot map files, all do.

    Args:
        model: whose tensors they are.
        path: of the file, in a folder that exists; one that is there is overwritten.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> model = nn.Linear(2, 2)
        >>> before = model.weight.detach().clone()
        >>> with tempfile.TemporaryDirectory() as folder, set_aside(model, Path(folder) / "weights") as let_go:
        ...     let_go()
        ...     torch.equal(model.weight, before)
        True
    """
    tensors = _movable(model)
    if not tensors or not hasattr(mmap, "MADV_DONTNEED"):
        yield lambda: None
        return
    try:
        places = _written(tensors, path)
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        for tensor, place in zip(tensors, places, strict=True):
            flat = torch.frombuffer(mapped, dtype=tensor.dtype, count=tensor.numel(), offset=place)
            tensor.data = flat.view(tensor.shape)
        yield lambda: mapped.madvise(mmap.MADV_DONTNEED)
    finally:
        for tensor in tensors:
            tensor.data = tensor.data.clone()
        path.unlink(missing_ok=True)


def _movable(model: nn.Module) -> list[Tensor]:
    found = [*model.parameters(), *model.buffers()]
    storages = [t.untyped_storage().data_ptr() for t in found]
    return [
        tensor
        for tensor, storage in zip(found, storages, strict=True)
        if tensor.device.type == "cpu"
        and type(tensor.data) is Tensor
        and tensor.layout == torch.strided
        and tensor.numel()
        and tensor.is_contiguous()
        and storages.count(storage) == 1
    ]


def _written(tensors: list[Tensor], path: Path) -> list[int]:
    """Write tensors one after the other; return where each begins, in bytes."""
    places = []
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(bytes(-file.tell() % _APART))
            places.append(file.tell())
            file.write(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return places
