"""Files that are either whole or not there."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to, and rename it at the end, so that no half file is ever seen.

    Raises:
        OSError: the folder does not exist or cannot be written to; ``path`` is then as it was, as after any error.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as a whole; see `whole`."""
    with whole(path) as temporary, temporary.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, as `write_text` does. Raises `ValueError` for NaN and infinity."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Write one JSON object a line, as `write_text` does. Raises `ValueError` for NaN and infinity."""
    write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))
