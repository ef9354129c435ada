"""Do two parts take the same index of one data set? Answered without reading an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, DataLoader, Subset

from amnesty.data import sampled
from amnesty.errors import SplitError
from amnesty.tasks.base import Source

UNSEEN = {"holdout", "nonmembers"}  # these two may share examples: no method reads either


def refuse_shared_indices(parts: Mapping[str, Source]) -> None:
    """Raise `SplitError` if two parts, other than two of `UNSEEN`, take the same index of one data set.

    Subsets of subsets, joined data sets and loaders are looked through; a loader whose sampler is not one of
    torch's own is not known.
    """
    origins = {name: _origins(name, source) for name, source in parts.items()}
    names = list(parts)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if {name, other} <= UNSEEN:
                continue
            for dataset, indices in origins[name].items():
                shared = np.intersect1d(indices, origins[other].get(dataset, []))
                if len(shared):
                    raise SplitError(
                        f"`{name}` and `{other}` overlap: they share {len(shared)} examples of one data set, such as "
                        f"index {int(shared[0])}. Split it with `amnesty.data.split`."
                    )


def _origins(name: str, source: Any) -> dict[int, np.ndarray]:
    """Return identity of a data set -> which of its indices ``source`` takes."""
    if isinstance(source, DataLoader):
        chosen = sampled(source)
        if chosen is None:
            return {}
        source = Subset(source.dataset, chosen)
    try:
        owners, indices = _flat(source)
    except IndexError as error:
        raise SplitError(f"`{name}` takes an index that its data set does not have: {error}.") from error
    return {int(owner): indices[owners == owner] for owner in np.unique(owners)}


def _flat(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each position, the identity of the data set that holds the example, and the index there."""
    if isinstance(dataset, Subset):
        owners, indices = _flat(dataset.dataset)
        chosen = np.asarray(dataset.indices, dtype=np.int64)
        return owners[chosen], indices[chosen]
    if isinstance(dataset, ConcatDataset):
        flat = [_flat(part) for part in dataset.datasets]
        return np.concatenate([f[0] for f in flat]), np.concatenate([f[1] for f in flat])
    return np.full(len(dataset), id(dataset)), np.arange(len(dataset))
