"""Are the files of a run those that its record names?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amnesty.requests.digests import NOT_LISTED, WORKING, contents, file_hash, is_plain, shown

Files = Mapping[str, Mapping[str, Any]]
"""Name of a file -> its ``sha256`` and ``size``."""


def file_problems(folder: Path, files: Files) -> Iterator[str]:
    """Yield what differs between a folder and the files that its record names: changed, missing, added ones."""
    there = dict(contents(folder, without=NOT_LISTED))
    links = {name for name, path in there.items() if not is_plain(path)}
    found = {name: file_hash(path) for name, path in there.items() if name not in links}
    for name in sorted(files.keys() | there.keys()):
        if name in links:
            yield f"{shown(name)}: is no plain file, but a link or the like; what it leads to is not read"
        elif name not in files:
            yield f"{shown(name)}: was added{_origin(name, found[name], files)}"
        elif name not in found:
            yield f"{shown(name)}: is missing"
        elif found[name] != files[name]["sha256"]:
            yield f"{shown(name)}: was changed{_change(folder / name, found[name], files[name], files)}"


def _origin(name: str, sha256: str, files: Files) -> str:
    if name.split("/", maxsplit=1)[0] in WORKING:
        return ": left from the run, which did not come to its end"
    other = _named(sha256, files)
    return f": it is {shown(other)} under another name" if other else ", and the record does not name it"


def _change(path: Path, sha256: str, recorded: Mapping[str, Any], files: Files) -> str:
    other = _named(sha256, files)
    if other:
        return f": it holds what {shown(other)} held"
    size, before = path.stat().st_size, recorded["size"]
    grown = "" if size == before else f", {size:,} bytes instead of {before:,}"
    return f": SHA-256 {sha256[:16]}... instead of {recorded['sha256'][:16]}...{grown}"


def _named(sha256: str, files: Files) -> str | None:
    return next((name for name, one in files.items() if one["sha256"] == sha256), None)
