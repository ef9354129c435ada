"""What stands in a folder, by hash: files, tensors, and JSON that has one form only."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from amnesty.errors import ModelError
from amnesty.weights import hash_tensors

AUDIT, SIGNATURE = "audit.json", "model.sig"
REQUEST, SCORES, HISTORY, ANSWERS = "request.yaml", "scores.json", "history.jsonl", "answers.parquet"
WORKING = ("checkpoint", ".lock")
"""What a folder holds only while its run goes on."""

NOT_LISTED = (AUDIT, SIGNATURE)
"""Files that audit.json cannot name: itself, and the signature over it."""


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """Return the SHA-256 (hex) of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(document: Mapping[str, Any]) -> str:
    r"""Return the one form that a document has as JSON: keys sorted, one space a level, a newline at the end.

    Raises:
        ValueError, TypeError: it holds NaN, infinity, or something that JSON does not have.

    >>> canonical({"b": [1.5], "a": None})
    '{\n "a": null,\n "b": [\n  1.5\n ]\n}\n'
    """
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def parsed(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds a number that is none.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number that JSON has")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def described(path: Path) -> dict[str, Any]:
    """Return a file's SHA-256 and its size in bytes."""
    return {"sha256": file_hash(path), "size": path.stat().st_size}


def contents(folder: Path, without: Iterable[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield what stands below a folder, sorted: its name relative to the folder, with ``/`` between, and its path.

    All that is not a folder counts: files, hidden ones too, pipes, and links, which are not followed. Entries of the
    folder itself that ``without`` names are left out.
    """
    for path in sorted(folder.iterdir()):
        if path.name not in without:
            yield from _below(folder, path)


def _below(folder: Path, path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_symlink() or not path.is_dir():
        yield path.relative_to(folder).as_posix(), path
        return
    for inner in sorted(path.iterdir()):
        yield from _below(folder, inner)


def shown(name: str) -> str:
    """Return a file's name as it can be printed in a line."""
    return name if name.isprintable() else ascii(name)


def is_plain(path: Path) -> bool:
    """Say whether this is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a run's unlearned model.

    They are ``model.safetensors``, those in ``model/``, those of the parts of ``pipeline/``, or those in
    ``adapter/``, which go with the model before.
    """
    single = folder / "model.safetensors"
    found = [single] if single.is_file() else sorted((folder / "model").glob("*.safetensors"))
    found = found or sorted((folder / "pipeline").glob("*/*.safetensors"))
    return found or sorted((folder / "adapter").glob("*.safetensors"))


def names_of(files: Iterable[Path]) -> dict[str, Path]:
    """Return files by name, with that of their folder where they lie in several: parts of a pipeline.

    >>> list(names_of([Path("a/unet/w"), Path("a/vae/w")])), list(names_of([Path("a/w"), Path("a/v")]))
    (['unet/w', 'vae/w'], ['w', 'v'])
    """
    found = list(files)
    several = len({path.parent for path in found}) > 1
    return {f"{path.parent.name}/{path.name}" if several else path.name: path for path in found}


def alone(files: Iterable[Path]) -> bool:
    """Say whether weight files hold adapters alone, which are nothing without the model that they go with."""
    return any(path.parent.name == "adapter" for path in files)


class _Saved(Mapping[str, Tensor]):
    """The tensors of open files, read one at a time."""

    def __init__(self, owners: Mapping[str, tuple[Any, str]]) -> None:
        self.owners = owners

    def __getitem__(self, name: str) -> Tensor:
        file, own = self.owners[name]
        found: Tensor = file.get_tensor(own)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.owners)

    def __len__(self) -> int:
        return len(self.owners)


def saved_tensors_hash(files: Iterable[Path]) -> str:
    """Return `amnesty.weights.hash_tensors` of what safetensors files hold together, read tensor by tensor.

    Where they lie in several folders, the parts of a pipeline, the name of its part stands before that of a tensor.

    Raises:
        ModelError: a file cannot be read, or two hold a tensor of the same name.
    """
    owners: dict[str, tuple[Any, str]] = {}
    try:
        with ExitStack() as stack:
            for named, path in names_of(files).items():
                opened = stack.enter_context(safe_open(path, framework="pt"))
                part = named[: -len(path.name)]
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    if owners.setdefault(part + name, (opened, name))[0] is not opened:
                        raise ModelError(f"{path} holds a tensor {name!r} that another file holds too.")
            return hash_tensors(_Saved(owners))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights cannot be read: {error}") from error


def read_text(path: Path) -> str | None:
    """Return a file's text, or ``None`` where it has none: it is missing, not a file, or not UTF-8."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_bytes().decode() if is_plain(path) else None
    return None


def count_records(folder: Path) -> int:
    """Return the number of lines of a run's history.jsonl; 0 where there is none."""
    text = read_text(folder / HISTORY)
    return 0 if text is None else len(text.splitlines())
