"""Which examples a run forgot, by hash: never the examples themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amnesty.data import Batches, batch_hashes, dataset_of
from amnesty.errors import InvalidInputError
from amnesty.files import write_text
from amnesty.requests.digests import canonical, parsed, read_text, text_hash
from amnesty.requests.prompt_hashes import Hashed
from amnesty.tasks import Source, unpack

FORGOTTEN, FORGOTTEN_BEFORE = "forgotten.json", "forgotten_before.json"


@dataclass(frozen=True)
class Forgotten:
    """What one run forgot: name of a forget set -> the `amnesty.data.example_hash` of its examples, sorted.

    Of an image generator: name of a concept -> the hashes of its prompts, and of its images where some were given;
    see `amnesty.requests.prompt_hashes`.
    """

    name: str
    sets: Mapping[str, tuple[bytes, ...]]

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Those of all sets together."""
        return tuple(one for found in self.sets.values() for one in found)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file that says so, whichever folder it lies in."""
        return text_hash(self.text)

    @property
    def text(self) -> str:
        """That file: JSON in its one form."""
        return canonical({"schema": 1, **self.document})

    @property
    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        return {"name": self.name, "sets": {name: [h.hex() for h in found] for name, found in self.sets.items()}}


def hashes_of(source: Source) -> list[bytes]:
    """Return the `amnesty.data.example_hash` of each example, in the order of the data set.

    Of what an image generator draws, they are those of `amnesty.requests.prompt_hashes`.

    Raises:
        DataError: examples that are not inputs and class numbers, or a loader that cannot be seen through.
    """
    if isinstance(source, Hashed):
        return source.hashes
    data = dataset_of(source, "data")
    return [h for batch in Batches(data, 512).iterate() for h in batch_hashes(*unpack(batch))]


def write_forgotten(folder: Path, forgotten: Forgotten, before: Sequence[Forgotten] = ()) -> None:
    """Write forgotten.json and, after earlier requests, forgotten_before.json; each whole or not at all."""
    write_text(folder / FORGOTTEN, forgotten.text)
    if before:
        runs = {"schema": 1, "runs": [one.document for one in before]}
        write_text(folder / FORGOTTEN_BEFORE, canonical(runs))


def read_forgotten(folder: Path) -> Forgotten:
    """Read what a run forgot. Raises `InvalidInputError` if its file is missing or not what `Forgotten.text` is."""
    path = folder / FORGOTTEN
    found = _read(path, _document(path))
    if read_text(path) != found.text:
        raise _not_ours(path)
    return found


def read_forgotten_before(folder: Path) -> tuple[Forgotten, ...]:
    """Read what earlier runs forgot, the first one first; none where there is no file. Raises as `read_forgotten`.

    The names of the runs are as they were; two may be the same.
    """
    path = folder / FORGOTTEN_BEFORE
    if not path.exists() and not path.is_symlink():
        return ()
    document = _document(path)
    runs = document.get("runs") if isinstance(document, dict) else None
    if not isinstance(runs, list) or not runs:
        raise _not_ours(path)
    found = tuple(_read(path, one) for one in runs)
    if read_text(path) != canonical({"schema": 1, "runs": [one.document for one in found]}):
        raise _not_ours(path)
    return found


def _document(path: Path) -> Any:
    text = read_text(path)
    if text is None:
        raise InvalidInputError(f"{path} is missing or cannot be read: nobody can tell what was forgotten.")
    try:
        return parsed(text)
    except ValueError as error:
        raise _not_ours(path) from error


def _read(path: Path, document: Any) -> Forgotten:
    try:
        sets = {name: tuple(map(bytes.fromhex, found)) for name, found in document["sets"].items()}
        return Forgotten(document["name"], sets)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_ours(path) from error


def _not_ours(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{path} is not what Amnesty wrote: it must hold names of sets and SHA-256 hashes.")


def find_hashes(datasets: Mapping[str, Source], hashes: Collection[bytes]) -> dict[str, np.ndarray]:
    """Find examples by their hash: name of a data set -> their positions in it, sorted, shape [k].

    Every example is read once.

    Raises:
        DataError: examples that are not inputs and class numbers.

    >>> import torch
    >>> from amnesty.data import Examples, example_hash
    >>> data = Examples(torch.arange(3.0)[:, None], torch.tensor([0, 1, 0]))
    >>> find_hashes({"training": data}, {example_hash(*data[2])})
    {'training': array([2])}
    """
    wanted = frozenset(hashes)
    return {
        name: np.flatnonzero([one in wanted for one in hashes_of(source)]) if wanted else np.zeros(0, dtype=np.int64)
        for name, source in datasets.items()
    }
