"""One seed, many independent generators: for data order, labels and noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


def derive(seed: int, *names: object) -> int:
    """Return a seed in [0, 2^63) for the use called ``names``, the same on every machine and in every run.

    >>> derive(0, "order", "retain", 1) == derive(0, "order", "retain", 1) != derive(0, "order", "retain", 2)
    True
    """
    text = "/".join(str(x) for x in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU generator of its own for the use called ``names``."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let dropout and other noise on ``device`` follow ``seed``, in deterministic kernels.

    The caller's generators are as before afterwards.
    """
    devices = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        # Not `torch.manual_seed`, which also seeds the devices that are not in use here.
        torch.default_generator.manual_seed(derive(seed, "noise"))
        if devices:
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
            stack.enter_context(torch.cuda.device(device))
            torch.cuda.manual_seed(derive(seed, "noise"))
        yield
