"""Runs in several sittings, and data to run on."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset

import amnesty
from amnesty.errors import InterruptedRunError
from amnesty.methods import FineTune
from amnesty.training import Checkpoints
from tests import tiny

QUICK = {"epochs": 2, "batch_size": 16}
LONG = FineTune(epochs=3, batch_size=16, lr=0.05)


class Augmented(Dataset):
    """Adds noise from every global generator."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image, label = self.data[i]
        noise = torch.randn(1, 6, 6) + torch.from_numpy(np.random.randn(1, 6, 6)).float() + random.gauss(0, 1)
        return image + 0.1 * noise, label


def task(model=tiny.conv_net, named=False, wrap=lambda data: data):
    """A random tenth to forget, with a validation part, anew each time."""
    parts = {"forget": tiny.blobs(14, seed=1), "retain": tiny.blobs(60, seed=2), "validation": tiny.blobs(20, seed=3)}
    wrapped = {name: wrap(data) for name, data in parts.items()}
    if named:
        wrapped["forget"] = {"ann": wrap(tiny.blobs(9, seed=4)), "bob": wrap(tiny.blobs(12, seed=5))}
    return amnesty.Classification(model(), **wrapped, duplicates="keep")


def sitting(make, method, folder, steps=None, **options):
    """Go on for so many steps; return the outcome, ``None`` if they were not enough."""
    told = []
    asked = {"minutes": None, "resume": True, **options.pop("checkpoints", {})}
    if steps is not None:
        asked["stop"] = lambda: len(told) >= steps
    try:
        return amnesty.unlearn(
            make(),
            method,
            progress=lambda record, total: told.append(record["step"]),
            checkpoints=Checkpoints(folder, **asked),
            **options,
        )
    except InterruptedRunError:
        assert len(told) >= steps  # notes, at which nobody stops, count too
        return None


def in_sittings(make, method, folder, steps=1, **options):
    """Run to the end, stopping after every few steps."""
    outcome = None
    while outcome is None:
        outcome = sitting(make, method, folder, steps, **options)
    return outcome


def whole(make, method, **options):
    """Run without a break."""
    return amnesty.unlearn(make(), method, **options)


def names(folder):
    """What is in a folder of checkpoints."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def same(first, second):
    """Whether two outcomes are the same: weights, buffers and history."""
    alike = tiny.same(tiny.weights(first.model), tiny.weights(second.model))
    return alike and first.history == second.history
