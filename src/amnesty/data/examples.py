"""Labelled images that fit into memory, and what can be read off any data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from amnesty.errors import AmnestyError, DataError, SplitError, UnknownNameError

INPUT_KEYS = ("pixel_values", "image", "images", "img", "input", "x")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")
LABEL_ATTRIBUTES = ("targets", "labels", "y")
SAME_FACTS = "same_facts_as"
"""Attribute of a data set that changes the inputs of another one: that other one, which has its columns and names."""


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels held in memory; one index or a list of indices gives one example or a batch.

    Args:
        images: shape [n, ...]; uint8 pixels are handed out as float32 in [0, 1], floats as they are.
        labels: shape [n], integers from 0.
        class_names: name of each class, in the order of the labels.
        columns: further facts per example, such as ``{"user_id": [...]}``, each of length n.

    Raises:
        DataError: lengths differ, or labels are not integers.

    Example:
        >>> data = Examples(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]), columns={"user_id": ["a", "b", "a"]})
        >>> image, label = data[[0, 2]]
        >>> image.shape, label
        (torch.Size([2, 1, 8, 8]), tensor([0, 1]))
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        class_names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> None:
        if labels.is_floating_point() or labels.dim() != 1:
            raise DataError(
                f"`labels` must be integers of shape [n], found {labels.dtype} of shape {list(labels.shape)}."
            )
        lengths = {"images": len(images), "labels": len(labels)}
        lengths |= {f"columns[{name!r}]": len(values) for name, values in (columns or {}).items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"Images, labels and columns must be equally many, found {lengths}.")
        self.images = images
        self.labels = labels.to(torch.int64)
        self.class_names = None if class_names is None else tuple(str(c) for c in class_names)
        self.columns = {name: _array(values) for name, values in (columns or {}).items()}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | list[int] | Tensor) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return (image.to(torch.float32).div_(255) if image.dtype == torch.uint8 else image), self.labels[index]

    def relabelled(self, labels: Tensor) -> Examples:
        """Return the same images under other labels; the labels so far become the column ``true_label``."""
        columns = {"true_label": self.labels.numpy(), **self.columns}
        return Examples(self.images, labels, self.class_names, columns)


def reads_batches(dataset: Any) -> bool:
    """Say whether ``dataset[list of indices]`` is a batch, so that no example needs to be collated."""
    # Not `isinstance`: a class derived from these may augment its examples, one by one.
    read = getattr(type(dataset), "__getitem__", None)
    if read is Subset.__getitem__:
        return reads_batches(dataset.dataset)
    if read is ConcatDataset.__getitem__:
        return all(map(reads_batches, dataset.datasets))
    return read in (Examples.__getitem__, TensorDataset.__getitem__) or getattr(dataset, "batched", None) is True


def read_batch(dataset: Any, indices: list[int]) -> Any:
    """Return the batch of a data set that `reads_batches`; a part may hold its indices in a tensor, too."""
    if isinstance(dataset, Subset):
        return read_batch(dataset.dataset, [int(dataset.indices[i]) for i in indices])
    return _read_joined(dataset, indices) if isinstance(dataset, ConcatDataset) else dataset[indices]


def _read_joined(dataset: ConcatDataset[Any], indices: list[int]) -> tuple[Tensor, ...]:
    owners = np.searchsorted(dataset.cumulative_sizes, indices, side="right")
    starts = [0, *dataset.cumulative_sizes]
    order, batches = [], []
    for k in np.unique(owners).tolist():
        mine = np.flatnonzero(owners == k).tolist()
        order += mine
        batches.append(read_batch(dataset.datasets[k], [indices[i] - starts[k] for i in mine]))
    back = torch.tensor(order).argsort()
    return tuple(torch.cat(column)[back] for column in zip(*batches, strict=True))


def input_and_label(example: Any) -> tuple[Any, Any]:
    """Return the input and the label of an example or a batch: a pair, or a mapping; ``None`` for what it lacks."""
    if isinstance(example, Mapping):
        first = (next((example[k] for k in keys if k in example), None) for keys in (INPUT_KEYS, LABEL_KEYS))
        return next(first), next(first)
    return (example[0], example[1]) if isinstance(example, list | tuple) and len(example) >= 2 else (None, None)


def read_column(dataset: Any, name: str) -> np.ndarray:
    """Return one fact per example, shape [n]: of a Hugging Face data set, of a mapping ``columns``, or an attribute.

    ``"label"`` also finds the labels of a torchvision-like data set (``targets``, ``labels``), of a
    ``TensorDataset`` (its last tensor), and of anything whose examples are ``(input, label)`` pairs.

    Raises:
        UnknownNameError: there is no such column; the message lists those there are.
        DataError: the column has another length than the data set.
    """
    if isinstance(dataset, Subset):
        return read_column(dataset.dataset, name)[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([read_column(part, name) for part in dataset.datasets])
    if hasattr(dataset, SAME_FACTS):
        return read_column(getattr(dataset, SAME_FACTS), name)
    column = _array(_find_column(dataset, name))
    if len(column) != len(dataset):
        raise DataError(f"Column {name!r} has {len(column)} entries for {len(dataset)} examples.")
    return column


def _find_column(dataset: Any, name: str) -> Any:
    columns = getattr(dataset, "columns", None)
    if isinstance(columns, Mapping) and name in columns:
        return columns[name]
    if _is_table(dataset):
        found = _label_column(dataset) if name == "label" else name
        if found not in dataset.column_names:
            raise UnknownNameError("column", name, dataset.column_names)
        return dataset.with_format(None)[found][:]  # as stored: a transform may need the other columns too
    if name == "label":
        for attribute in LABEL_ATTRIBUTES:
            if getattr(dataset, attribute, None) is not None:
                return getattr(dataset, attribute)
        if isinstance(dataset, TensorDataset):
            return dataset.tensors[-1]
        return _labels_one_by_one(dataset)
    values = getattr(dataset, name, None)
    if isinstance(values, Sequence | np.ndarray | Tensor) and not isinstance(values, str | bytes):
        return values
    raise UnknownNameError("column", name, known_columns(dataset))


def known_columns(dataset: Any) -> list[str]:
    """Return the names that `read_column` knows without guessing."""
    if isinstance(dataset, Subset):
        return known_columns(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return known_columns(dataset.datasets[0])
    if hasattr(dataset, SAME_FACTS):
        return known_columns(getattr(dataset, SAME_FACTS))
    names = list(getattr(dataset, "columns", None) or getattr(dataset, "column_names", None) or ())
    return [*names, "label"] if "label" not in names else names


def _is_table(dataset: Any) -> bool:
    """Say whether this is a Hugging Face data set, without importing that package."""
    return hasattr(dataset, "column_names") and hasattr(dataset, "with_format")


def _label_column(dataset: Any) -> str:
    return next((name for name in LABEL_KEYS if name in dataset.column_names), "label")


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16: its bits serve as well to compare and to hash.
        array: np.ndarray = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
        return array
    try:
        return np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array


def _labels_one_by_one(dataset: Any) -> list[int]:
    try:
        return [int(input_and_label(_example(dataset, i))[1]) for i in range(len(dataset))]
    except AmnestyError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"No labels found in a {type(dataset).__name__}: its examples are not (input, label) pairs, and it has "
            f"no attribute {', '.join(LABEL_ATTRIBUTES)}."
        ) from error


def _example(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except AmnestyError:
        raise
    except Exception as error:  # whatever a data set may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"Example {index} of a {type(dataset).__name__} cannot be read: {reason}") from error


def class_names(dataset: Any, column: str = "label") -> tuple[str, ...] | None:
    """Return the names of the classes in ``column`` where ``dataset`` knows them, else ``None``."""
    if isinstance(dataset, Subset):
        return class_names(dataset.dataset, column)
    if isinstance(dataset, ConcatDataset):
        found = {class_names(part, column) for part in dataset.datasets}
        return found.pop() if len(found) == 1 else None
    if hasattr(dataset, SAME_FACTS):
        return class_names(getattr(dataset, SAME_FACTS), column)
    names: Any = None
    if _is_table(dataset):
        feature = dataset.features.get(_label_column(dataset) if column == "label" else column)
        names = getattr(feature, "names", None)
    elif column == "label":
        names = getattr(dataset, "class_names", None) or getattr(dataset, "classes", None)
    return tuple(str(c) for c in names) if isinstance(names, Sequence | np.ndarray) else None


def example_hash(image: Any, label: Any) -> bytes:
    """Return the SHA-256 of one example's type, shape, values and label."""
    array = np.ascontiguousarray(_array(image))
    if array.dtype == object:
        raise DataError(f"An input must be numbers, found {type(image).__name__}.")
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}{int(label)}".encode())
    digest.update(array.data)  # the buffer itself, not a copy
    return digest.digest()


def batch_hashes(inputs: Tensor, labels: Tensor) -> list[bytes]:
    """Return the `example_hash` of each example of a batch."""
    return [example_hash(x, y) for x, y in zip(_array(inputs), labels.tolist(), strict=True)]


def content_hash(dataset: Any) -> str:
    """Return the SHA-256 (hex) of a data set's examples; their order does not matter.

    Raises:
        SplitError: the data set is empty.
        DataError: its examples are neither pairs nor mappings of an input and a label.
    """
    if len(dataset) == 0:
        raise SplitError("An empty data set has no content to hash.")
    hashes = sorted(_hash(dataset[i]) for i in range(len(dataset)))
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _hash(example: Any) -> bytes:
    image, label = input_and_label(example)
    if image is None or label is None:
        raise DataError(f"Examples must be (input, label) pairs or mappings, found {type(example).__name__}.")
    return example_hash(image, label)
