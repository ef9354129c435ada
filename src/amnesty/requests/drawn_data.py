"""The data of a request for an image generator: prompts, and images with or without captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from amnesty.data import Inputs, input_and_label
from amnesty.data.folders import SUFFIXES
from amnesty.data.pictures import undecodable
from amnesty.errors import DataError, InvalidInputError, MissingExtraError, ShapeError
from amnesty.requests.concepts_request import ConceptSpec, KeptSpec
from amnesty.requests.pictures import PictureTable, load_pictures, names_in, open_table
from amnesty.requests.prompt_hashes import image_hash, joined, prompt_hash
from amnesty.requests.request import SourceSpec
from amnesty.requests.sources import Named, imported, is_table
from amnesty.requests.zero_shot import texts_in
from amnesty.seeds import seeded
from amnesty.tasks.diffusion import Prompt
from amnesty.tasks.diffusion.concepts import check_prompt
from amnesty.tasks.zero_shot.words import fill


@dataclass(frozen=True)
class Wanted:
    """What images a generator takes: their channels, height and width, and whether others are resized to these."""

    channels: int
    size: tuple[int, int]
    resized: bool = False

    @property
    def inputs(self) -> Inputs:
        """How images of files become tensors."""
        channels: Any = self.channels if self.channels in (1, 3) else None
        return Inputs(size=self.size if self.resized else None, channels=channels)

    def check(self, image: Tensor, what: str) -> None:
        """Raise `ShapeError` for an image that is of another shape and would not be resized to this one."""
        found = tuple(image.shape)
        right = found[:1] == (self.channels,) if self.resized else found == (self.channels, *self.size)
        if len(found) != 3 or not right:
            raise ShapeError(
                f"{what} has the shape {list(found)}, but the model takes {[self.channels, *self.size]}. Give "
                "`diffusion.image_size` to have images resized; it stands for height and width in pixels."
            )


class Shown(Dataset[tuple[Tensor, Any]]):
    """Images as a generator takes them, each with what stands beside it: a caption, a label, or nothing that matters.

    Args:
        data: of images of PIL or tensors, alone or in pairs.
        name: of it, for messages.
        wanted: what the generator takes.
    """

    def __init__(self, data: Any, name: str, wanted: Wanted) -> None:
        self._data, self._name, self._wanted = Named(data, name), name, wanted

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        example, what = self._data[index], f"Image {index} of {self._name}"
        image, beside = input_and_label(example)
        image = example if image is None else image
        if hasattr(image, "convert") and hasattr(image, "mode"):
            image = torch.from_numpy(self._wanted.inputs.pixels(image, what))
        if not isinstance(image, Tensor):
            raise DataError(f"{what} must be a tensor or an image of PIL, found {type(image).__name__}.")
        self._wanted.check(image, what)
        return image, beside.item() if isinstance(beside, Tensor) and beside.dim() == 0 else beside

    @cached_property
    def facts(self) -> tuple[tuple[bytes, ...], tuple[Any, ...]]:
        """The hash of each image, and what stands beside it. Reads all of them once."""
        with seeded(0, torch.device("cpu")):  # data may draw random numbers; the caller's are not for it
            pairs = [self[i] for i in range(len(self))]
            return tuple(image_hash(image) for image, _ in pairs), tuple(beside for _, beside in pairs)


@dataclass(frozen=True, eq=False)
class ConceptData:
    """A concept as its data says it.

    Attributes:
        prompts: that ask for it.
        anchor: what is to be drawn instead.
        images: of it; ``None``: they are drawn.
        hashes: of the images.
    """

    prompts: tuple[Prompt, ...]
    anchor: Prompt | None = None
    images: Dataset[Any] | None = None
    hashes: tuple[bytes, ...] = ()

    @property
    def all_hashes(self) -> tuple[bytes, ...]:
        """Of the prompts and of the images, sorted."""
        return tuple(sorted({*map(prompt_hash, self.prompts), *self.hashes}))


@dataclass(frozen=True, eq=False)
class KeptData:
    """What is kept: prompts alone, or images with what stands beside them.

    Attributes:
        prompts: whose images are drawn; empty where there are images.
        images: see `Shown`.
        captions: label -> its prompts, where labels have names.
        rows: which of the images are kept, of all that there are.
    """

    prompts: tuple[Prompt, ...] = ()
    images: Shown | None = None
    captions: Mapping[Any, tuple[Prompt, ...]] = field(default_factory=dict)
    rows: tuple[int, ...] = ()

    def asked(self, row: int) -> tuple[Prompt, ...]:
        """Return the prompts that any may stand for an image."""
        assert self.images is not None
        beside = self.images.facts[1][row]
        return self.captions[beside] if self.captions else (beside,)

    @property
    def dataset(self) -> Dataset[Any]:
        """The images that are kept."""
        assert self.images is not None
        return Subset(self.images, self.rows)

    @property
    def hashes(self) -> list[bytes]:
        """Of prompts, or of each image and of what it is called."""
        if self.images is None:
            return [prompt_hash(prompt) for prompt in self.prompts]
        found = self.images.facts[0]
        return [one for row in self.rows for one in (found[row], *map(prompt_hash, self.asked(row)))]

    @property
    def content(self) -> str:
        """One hash (hex) of all of it, whatever its order: of images with their prompts where there are any."""
        if self.images is None:
            return joined(map(prompt_hash, self.prompts))
        found = self.images.facts[0]
        return joined(found[row] + b"".join(map(prompt_hash, self.asked(row))) for row in self.rows)

    def without(self, prompts: Sequence[bytes], images: Sequence[bytes] = ()) -> tuple[KeptData, int, int]:
        """Take out what has these hashes; return the rest, and how many prompts and images were taken out.

        An image goes where any of its prompts does.
        """
        gone, lost = frozenset(prompts), frozenset(images)
        kept = tuple(prompt for prompt in self.prompts if prompt_hash(prompt) not in gone)
        if self.images is None:
            return dataclasses.replace(self, prompts=kept), len(self.prompts) - len(kept), 0
        found = self.images.facts[0]
        rows = tuple(
            row for row in self.rows if found[row] not in lost and gone.isdisjoint(map(prompt_hash, self.asked(row)))
        )
        return dataclasses.replace(self, rows=rows), 0, len(self.rows) - len(rows)


def load_concept(spec: ConceptSpec, name: str, wanted: Wanted) -> ConceptData:
    """Load what a request says of a concept.

    Raises:
        DataError, ShapeError: a file without prompts; images that cannot be used.
        MissingExtraError, InvalidInputError, UnknownNameError: as `load_pictures`.
        OSError: a file cannot be read.
    """
    prompts = spec.prompts if spec.file is None else texts_in(spec.file)
    if spec.images is None:
        return ConceptData(tuple(dict.fromkeys(prompts)), spec.anchor)
    images = Shown(unlabelled(spec.images, wanted), f"the concept {name!r}", wanted)
    return ConceptData(tuple(dict.fromkeys(prompts)), spec.anchor, images, images.facts[0])


def load_kept(spec: KeptSpec, wanted: Wanted, reads_texts: bool) -> KeptData:
    """Load what a request says of what is kept.

    Args:
        spec: see `KeptSpec`.
        wanted: what images the generator takes.
        reads_texts: whether it reads texts, and does not know classes alone.

    Raises:
        DataError, ShapeError: a file without prompts; images that cannot be used; labels without words for a model
            that reads texts.
        MissingExtraError, InvalidInputError, UnknownNameError: as `load_pictures`.
        OSError: a file cannot be read.
    """
    if spec.images is None:
        return KeptData(prompts=tuple(dict.fromkeys(spec.prompts if spec.file is None else texts_in(spec.file))))
    data = load_pictures(spec.images, captioned=not spec.labelled, inputs=wanted.inputs)
    images = Shown(data, "the retain set", wanted)
    captions: dict[Any, tuple[Prompt, ...]] = {}
    if spec.templates:
        names = names_in(data, spec.class_names, "`data.retain`")
        captions = {k: tuple(fill(one, name) for one in spec.templates) for k, name in enumerate(names)}
    for row, beside in enumerate(images.facts[1]):
        _check_beside(beside, row, captions, reads_texts)
    return KeptData(images=images, captions=captions, rows=tuple(range(len(images))))


def _check_beside(beside: Any, row: int, captions: Mapping[Any, Any], reads_texts: bool) -> None:
    """Raise `DataError` unless what stands beside an image can be asked for."""
    if captions and beside not in captions:
        raise DataError(f"Image {row} of the retain set has the label {beside!r}, which has no name.")
    if captions:
        return
    if reads_texts and not isinstance(beside, str):
        raise DataError(
            f"The model reads texts, but image {row} of the retain set has the label {beside!r}: give "
            "`data.retain.templates`, into which the names of classes are put, or captions."
        )
    try:
        check_prompt(int(beside) if hasattr(beside, "__index__") else beside)
    except InvalidInputError as error:
        raise DataError(f"Image {row} of the retain set cannot be asked for. {error}") from error


def unlabelled(spec: SourceSpec, wanted: Wanted) -> Any:
    """Load images whose labels do not matter."""
    if spec.kind == "images":
        return _Folder(spec, wanted.inputs)
    if spec.kind != "import":
        table, what = open_table(spec)
        return PictureTable(table, what, spec.image_column, None, inputs=wanted.inputs)
    dataset = imported(spec)
    if is_table(dataset) and dataset.format["type"] is None:
        count = len(dataset) if spec.limit is None else min(spec.limit, len(dataset))
        return PictureTable(dataset.select(range(count)), spec.name, spec.image_column, None, inputs=wanted.inputs)
    return dataset if spec.limit is None else Subset(dataset, range(min(spec.limit, len(dataset))))


class _Folder(Dataset[Tensor]):
    """The images of a folder and of the folders in it, sorted by path."""

    def __init__(self, spec: SourceSpec, inputs: Inputs) -> None:
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("pillow", "data", "Reading images") from error
        folder = Path(spec.name)
        found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
        shown = [path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)]
        self._paths, self._inputs = shown[: spec.limit], inputs
        if not self._paths:
            raise DataError(f"There is no image in {folder}: {', '.join(SUFFIXES)} are read.")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        path = self._paths[index]
        try:
            with path.open("rb") as file, Image.open(file) as image:
                return torch.from_numpy(self._inputs.pixels(image, f"The image {path}"))
        except DataError:
            raise
        except Exception as error:  # whatever a decoder may raise
            raise undecodable(f"The image {path}", error) from error
