"""Several data sets as one stream, and examples under other labels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from amnesty.data.examples import input_and_label, read_batch, reads_batches
from amnesty.errors import DataError


class Joined(ConcatDataset[tuple[Any, Any]]):
    """Data sets as one, whose examples are all pairs of an input and a label, whatever kind of data set they are of.

    >>> from amnesty.data import Examples
    >>> data = Joined([Examples(torch.zeros(2, 1), torch.tensor([0, 1])), [{"img": torch.ones(1), "label": 7}]])
    >>> data[1], data[2]
    ((tensor([0.]), tensor(1)), (tensor([1.]), tensor(7)))
    """

    def __init__(self, datasets: Sequence[Dataset[Any]]) -> None:
        super().__init__(datasets)
        self.batched = all(map(reads_batches, datasets))  # in which case nobody needs to collate them

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        example: Any = super().__getitem__(index)  # type: ignore[no-untyped-call]
        image, label = input_and_label(example)
        return example if label is None else (image, torch.as_tensor(label))


class Together(Dataset[tuple[Any, int]]):
    """Data sets as one, whose examples know where they come from: ``(example, number of its data set)``.

    Shuffled, it is the one stream of retained and relabelled examples that many published methods train on.

    >>> from amnesty.data import Examples
    >>> first = Examples(torch.zeros(2, 1), torch.tensor([0, 1]))
    >>> both = Together([first, Examples(torch.ones(1, 1), torch.tensor([7]))])
    >>> (image, label), origin = both[[2, 0]]
    >>> label, origin
    (tensor([7, 0]), tensor([1, 0]))
    """

    def __init__(self, parts: Sequence[Dataset[Any]]) -> None:
        self.joined = Joined(parts)
        self.batched = self.joined.batched

    def __len__(self) -> int:
        return len(self.joined)

    def __getitem__(self, index: int | list[int]) -> tuple[Any, Any]:
        ends = self.joined.cumulative_sizes
        if isinstance(index, list):
            return read_batch(self.joined, index), torch.tensor([bisect_right(ends, i) for i in index])
        example: Any = self.joined[index]
        return example, bisect_right(ends, index)


class WithLabels(Dataset[tuple[Any, int]]):
    """The inputs of a data set under ``labels``, shape [n].

    Raises:
        DataError: there is not one label for each example.
    """

    def __init__(self, dataset: Dataset[Any], labels: Tensor) -> None:
        count = len(dataset)  # type: ignore[arg-type]
        if len(labels) != count:
            raise DataError(f"`labels` has {len(labels)} entries for {count} examples.")
        self.dataset, self.labels = dataset, labels
        self.batched = reads_batches(dataset)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int]) -> tuple[Any, Any]:
        if isinstance(index, list):
            return read_batch(self.dataset, index)[0], self.labels[index]
        return input_and_label(self.dataset[index])[0], int(self.labels[index])


def dataset_of(source: Dataset[Any] | DataLoader[Any], name: str) -> Dataset[Any]:
    """Return the data set of a part: itself, or what its loader draws from, to be read in another order.

    Raises:
        DataError: the loader's sampler or its way of making batches is one that cannot be known.
    """
    if not isinstance(source, DataLoader):
        return source
    indices = sampled(source)
    if indices is None or source.collate_fn is not default_collate:
        raise DataError(
            f"This method reads the {name} set in an order of its own, and cannot see through the sampler or the "
            "`collate_fn` of your loader. Give the data set itself."
        )
    return Subset(source.dataset, list(indices))


def sampled(loader: DataLoader[Any]) -> Sequence[int] | None:
    """Return the indices that a loader draws from, ``None`` if that cannot be known."""
    if loader.batch_sampler is None:
        sampler: Any = loader.sampler
    elif type(loader.batch_sampler) is BatchSampler:
        sampler = loader.batch_sampler.sampler
    else:
        return None
    if isinstance(sampler, SubsetRandomSampler):
        return sampler.indices
    return range(len(loader.dataset)) if isinstance(sampler, SequentialSampler | RandomSampler) else None  # type: ignore[arg-type]
