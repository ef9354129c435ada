"""One mapping of a request, read key by key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from amnesty.requests.faults import Faults, Place
from amnesty.requests.values import MISFIT, nearest, value_of
from amnesty.requests.vocabulary import Kinds
from amnesty.requests.yaml_file import UNUSABLE, Node


class Section:
    """A mapping, and the faults of what is taken out of it.

    A key without a value is as one that is not there, unless its type allows null.

    Args:
        node: a mapping, or nothing; anything else is noted.
        name: of the section in messages; empty for the whole request.
    """

    def __init__(self, node: Node, name: str, faults: Faults) -> None:
        if not isinstance(node.value, dict) and node.value is not None and node.value is not UNUSABLE:
            faults.add(node.place, f"`{name}` must be a mapping with keys, found {node.found}.")
        self.node, self.name, self.faults = node, name, faults
        self.usable = isinstance(node.value, dict) or node.value is None
        self._nodes: dict[str, Node] = node.value if isinstance(node.value, dict) else {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __contains__(self, key: str) -> bool:
        return self[key].value is not None

    def __getitem__(self, key: str) -> Node:
        """Return the node of ``key``; an empty one where there is none."""
        return self._nodes.get(key) or Node(None, self.node.place)

    def named(self, key: str) -> str:
        """Return the full name of a key."""
        return f"{self.name}.{key}" if self.name else key

    def add(self, key: str, text: str) -> None:
        """Note a fault of a key; the text goes on after its name."""
        self.faults.add(self[key].place, f"`{self.named(key)}` {text}")

    def take(self, key: str, hint: Any, default: Any = None) -> Any:
        """Return the value of ``key`` as ``hint`` wants it; ``default`` where it is not given or wrong."""
        if key not in self._nodes:
            return default
        value = value_of(self[key], hint, self.named(key), self.faults)
        return default if value is MISFIT else value

    def section(self, key: str) -> Section:
        """Return the mapping at ``key``; an empty one where there is none."""
        return Section(self[key], self.named(key), self.faults)

    def path(self, key: str) -> Path | None:
        """Return the absolute path at ``key``, ``None`` where there is none."""
        text = self.take(key, str | None)
        return None if text is None else self.absolute(key, text)

    def absolute(self, key: str, text: str) -> Path | None:
        """Return ``text`` as a path from the folder of the file in which ``key`` stands."""
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            self.add(key, f"must be a path, found {self[key].found}.")
            return None
        try:
            path = Path(text).expanduser()
        except RuntimeError as error:
            self.add(key, f"cannot be followed: {error}")
            return None
        return absolute(path, self[key].place)

    def require(self, key: str, example: str) -> bool:
        """Say whether ``key`` is given; note what to add where it is not."""
        if key in self:
            return True
        if self.usable:
            self.faults.add(self.node.place, f"`{self.named(key)}` is missing: add, for example, `{example}`.")
        return False

    def choose(self, kinds: Kinds, example: str) -> str | None:
        """Return the one of ``kinds`` that is given; note more or fewer, and what cannot stand beside it."""
        if not self.usable:
            return None
        given = [kind for kind in kinds if kind in self]
        if len(given) != 1:
            found = " and ".join(given) or ("nothing" if self.node.value is None else "none of them")
            self.faults.add(
                self.node.place,
                f"`{self.name}` must have exactly one of {', '.join(kinds)}, found {found}; for example `{example}`.",
            )
            self.close({*kinds, *(key for beside in kinds.values() for key in beside)})
            return None
        kind = given[0]
        known = {key for beside in kinds.values() for key in beside}
        for key in [k for k in self if k in known - {*kinds[kind]}]:
            self.add(key, f"means nothing beside `{self.named(kind)}`: leave it out.")
        self.close({*kinds, *known})
        return kind

    def close(self, known: Collection[str]) -> None:
        """Note the keys that are not ``known``."""
        for key in self._nodes:
            if key not in known:
                self.add(key, f"is unknown.{nearest(key, known)} Known: {', '.join(sorted(known))}.")

    def unique(self, key: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return ``values``, after noting the first that is there twice."""
        seen: set[Any] = set()
        for i, value in enumerate(values):
            if value in seen:
                place = self[key].value[i].place
                self.faults.add(place, f"`{self.named(key)}[{i}]` is there twice: {value!r}.")
                break
            seen.add(value)
        return values


def absolute(path: Path, place: Place) -> Path:
    """Return ``path`` from the folder of the file in which it stands; links are followed only where it has ``..``."""
    found = place.origin.folder / path
    return found.resolve() if ".." in found.parts else found.absolute()
