"""One seed, many independent generators: for data order, labels and noise."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
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
    """Let dropout, augmentations and other noise follow ``seed``: torch (CPU and ``device``), NumPy and `random`.

    On CUDA, cuDNN is held to deterministic kernels. The caller's generators and flags are as before afterwards.
    """
    devices = [device] if device.type == "cuda" else []
    number = derive(seed, "noise")
    kept = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        # Not `torch.manual_seed`, which also seeds the devices that are not in use here.
        torch.default_generator.manual_seed(number)
        if devices:
            cudnn = torch.backends.cudnn
            same = {"enabled": cudnn.enabled, "allow_tf32": cudnn.allow_tf32}
            stack.enter_context(cudnn.flags(benchmark=False, deterministic=True, **same))
            stack.enter_context(torch.cuda.device(device))
            torch.cuda.manual_seed(number)
        stack.callback(random.setstate, kept[0])
        stack.callback(np.random.set_state, kept[1])
        random.seed(number)
        np.random.seed(number % 2**32)
        yield
