"""Parts of the data under labels that are known beforehand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from amnesty.data import Batches, WithLabels, dataset_of
from amnesty.tasks.classification import Classification
from amnesty.tasks.labelled import unpack


def labelled_part(task: Classification, part: str) -> WithLabels:
    """Return the data set of a part with its labels in its own order, shape [n].

    Examples of such data sets are alike, so that several can be joined (`torch.utils.data.ConcatDataset`).

    Raises:
        DataError: the part is a loader that cannot be seen through.
    """
    source = task.parts[part]
    dataset = dataset_of(source, part)
    if not isinstance(source, DataLoader):
        return WithLabels(dataset, task.labels(part))
    # The loader may have shuffled when the task read its labels.
    return WithLabels(dataset, torch.cat([unpack(batch)[1] for batch in Batches(dataset).iterate()]))


def some_of_each(labels: Tensor, most: int, generator: torch.Generator) -> list[int]:
    """Return the indices, sorted, of up to ``most`` random examples of each class.

    >>> some_of_each(torch.tensor([0, 1, 2, 2]), 1, torch.Generator())[:2]
    [0, 1]
    """
    chosen: list[int] = []
    for c in sorted(set(labels.tolist())):
        mine = (labels == c).nonzero()[:, 0]
        chosen += mine[torch.randperm(len(mine), generator=generator)[:most]].tolist()
    return sorted(chosen)
