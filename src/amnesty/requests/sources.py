"""The data of a request: every source as a data set of inputs and labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from amnesty.data import (
    Converted,
    ImageFolder,
    Inputs,
    class_names,
    images_of,
    input_and_label,
    load_images,
    read_column,
)
from amnesty.data.examples import reads_batches
from amnesty.errors import AmnestyError, DataError, InvalidInputError, one_line
from amnesty.requests.request import DataSpec, InputsSpec, SourceSpec
from amnesty.seeds import seeded
from amnesty.studies.calling import call


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The data sets of a request.

    Attributes:
        training: what the model was trained on.
        holdout, validation: data sets of their own, where the request names such.
        describe: what they are, as plain values.
    """

    training: Dataset[Any]
    holdout: Dataset[Any] | None = None
    validation: Dataset[Any] | None = None
    describe: Mapping[str, Any]

    @property
    def classes(self) -> int:
        """How many classes the training data has: as many as it names, or one more than its highest label.

        Raises:
            DataError: labels are no class numbers.
        """
        labels = read_column(self.training, "label")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(
                f"The labels of the training data must be one class number an example, found {labels.dtype} of shape "
                f"{list(labels.shape)}."
            )
        return max(int(labels.max()) + 1, len(class_names(self.training) or ()))


def load_sources(data: DataSpec, inputs: InputsSpec | None = None, load: Load | None = None) -> Sources:
    """Load all data sets of a request.

    Args:
        data: of the request.
        inputs: how images become inputs, where it is not ``data.inputs``; see `amnesty.requests.inputs.inputs_of`.
        load: loads one, where its images become inputs in another way.

    Raises:
        InvalidInputError: see `load_source`.
        DataError: the data sets number the same classes differently.
    """
    wanted = data.inputs if inputs is None else inputs
    load = load or (lambda spec, part, names: _load(spec, wanted, names))
    loaded = {"training": load(data.training, "training", None)}
    names = class_names(loaded["training"].dataset)
    for part, spec in (("holdout", data.holdout), ("validation", data.validation)):
        if isinstance(spec, SourceSpec):
            loaded[part] = load(spec, part, names)
            refuse_other_order(names, class_names(loaded[part].dataset), "the training data", f"the {part} data")
    if data.inputs != InputsSpec() and not any(one.converted for one in loaded.values()):
        raise InvalidInputError(
            "`data.inputs` says how images become inputs, but the data sets hold inputs already. Leave it out, or "
            "let the functions return PIL images."
        )
    described = {part: one.describe(wanted) for part, one in loaded.items()}
    return Sources(**{part: one.dataset for part, one in loaded.items()}, describe=described)


def refuse_other_order(first: Sequence[str] | None, second: Sequence[str] | None, one: str, other: str) -> None:
    """Raise `DataError` if a class has another number in the ``second`` list of names than in the ``first``.

    Names that are in one of them only say nothing; capitals and blanks around a name do not count.
    """
    numbers = {name.strip().casefold(): number for number, name in enumerate(first or ())}
    for number, name in enumerate(second or ()):
        known = numbers.get(name.strip().casefold(), number)
        if known != number:
            raise DataError(
                f"The class {name!r} has the number {known} in {one} and {number} in {other}: their classes are in "
                "different orders. Number the labels of one as in the other."
            )


def load_source(spec: SourceSpec, inputs: InputsSpec, classes: Sequence[str] | None = None) -> Dataset[Any]:
    """Load one data set, whose examples are inputs and labels.

    Images become inputs as ``inputs`` says; a function's data set whose inputs are tensors already stays as it is.

    Args:
        spec: where it comes from.
        inputs: how images become inputs.
        classes: names to number the sub-folders of images by, where these are not numbered among themselves.

    Raises:
        MissingExtraError: a package that reads it is not installed.
        DataError: it cannot be read, is empty, or holds something else.
        InvalidInputError: ``inputs`` are no numbers to normalise by, or a function cannot be called.
        UnknownNameError: there is no such column or function.
    """
    dataset: Dataset[Any] = _load(spec, inputs, classes).dataset
    return dataset


@dataclass(frozen=True)
class Loaded:
    """A data set of inputs and labels, and where it came from."""

    spec: SourceSpec
    dataset: Any
    converted: bool  # by `inputs`

    def describe(self, inputs: InputsSpec) -> dict[str, Any]:
        """Return plain values for a record."""
        names = class_names(self.dataset)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(inputs).items()}
        return {
            "kind": self.spec.kind,
            "name": self.spec.name,
            "split": self.spec.split if self.spec.kind in ("huggingface", "parquet") else None,
            "examples": len(self.dataset),
            "class_names": None if names is None else list(names),
            "inputs": plain if self.converted else None,
            "ignored_files": list(getattr(self.dataset, "ignored", ())),
        }


Load = Callable[[SourceSpec, str, Sequence[str] | None], Loaded]
"""Loads a source for the part of that name, its classes numbered as these names, where there are some."""


def _load(spec: SourceSpec, inputs: InputsSpec, classes: Sequence[str] | None) -> Loaded:
    wanted = Inputs(**{field.name: getattr(inputs, field.name) for field in dataclasses.fields(InputsSpec)})
    if spec.kind == "import":
        return _imported(spec, wanted)
    if spec.kind == "images":
        folder = ImageFolder(spec.name, inputs=wanted, class_names=classes, limit=spec.limit)
        return Loaded(spec, folder, True)
    name = Path(spec.name) if spec.kind == "parquet" else spec.name
    options = dataclasses.asdict(wanted)
    images = load_images(name, spec.split, spec.image_column, spec.label_column, spec.limit, **options)
    return Loaded(spec, images, True)


def imported(spec: SourceSpec) -> Any:
    """Return the data set that a function makes.

    Raises:
        InvalidInputError: it cannot be called, or makes no data set whose examples are read by number.
        UnknownNameError: there is no such function.
        DataError: the data set is empty.
    """
    with seeded(0, torch.device("cpu")):
        dataset = call(spec.name, spec.options)
    _check_kind(dataset, spec.name)
    return dataset


def _imported(spec: SourceSpec, inputs: Inputs) -> Loaded:
    dataset = imported(spec)
    if is_table(dataset) and dataset.format["type"] is None:
        images = images_of(dataset, spec.name, spec.image_column, spec.label_column, spec.limit, inputs)
        return Loaded(spec, images, True)
    if spec.limit is not None:
        dataset = Subset(dataset, range(min(spec.limit, len(dataset))))
    image, label = first_of(dataset, spec.name)
    if label is None:
        raise DataError(f"The examples of {spec.name} have no label.")
    dataset = dataset if reads_batches(dataset) or is_table(dataset) else Named(dataset, spec.name)
    if hasattr(image, "convert"):  # an image of PIL
        return Loaded(spec, Converted(dataset, inputs), True)
    if not isinstance(image, torch.Tensor):
        raise DataError(f"{spec.name} must give inputs that are tensors or PIL images, found {type(image).__name__}.")
    return Loaded(spec, dataset, False)


def _check_kind(dataset: Any, name: str) -> None:
    if isinstance(dataset, DataLoader):
        raise InvalidInputError(f"{name} must return the data set itself, not a `DataLoader` of it.")
    readable = all(hasattr(dataset, need) for need in ("__len__", "__getitem__"))
    if isinstance(dataset, IterableDataset | Mapping) or not readable:
        raise InvalidInputError(
            f"{name} must return a data set with a length whose examples are read by number, found a "
            f"{type(dataset).__name__}."
        )
    try:
        count = len(dataset)
    except Exception as error:  # whatever the user's data set may raise
        raise DataError(f"The data set of {name} cannot tell its length: {one_line(error)}") from error
    if count == 0:
        raise DataError(f"The data set of {name} is empty.")


def is_table(dataset: Any) -> bool:
    """Say whether this is a data set of Hugging Face."""
    return hasattr(dataset, "column_names") and hasattr(dataset, "features") and hasattr(dataset, "format")


class Named(Dataset[Any]):
    """A data set of the user's; where an example cannot be read, the error says which."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.same_facts_as, self._name = dataset, name

    def __len__(self) -> int:
        return len(self.same_facts_as)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.same_facts_as[index]
        except AmnestyError:
            raise
        except Exception as error:  # whatever the user's data set may raise
            raise DataError(f"Example {index} of {self._name} cannot be read: {one_line(error)}") from error


def first_of(dataset: Any, name: str) -> tuple[Any, Any]:
    """Return the input and the label of the first example; raise `DataError` where it is neither pair nor mapping."""
    example = Named(dataset, name)[0]
    image, label = input_and_label(example)
    if image is None:
        raise DataError(
            f"The examples of {name} must be pairs of input and label, or mappings, found {type(example).__name__}."
        )
    return image, label
