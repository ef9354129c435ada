"""Values given on the command line, put where the file would have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from amnesty.requests.faults import Faults, Origin, Place
from amnesty.requests.vocabulary import SHORT, kinds_at
from amnesty.requests.yaml_file import UNUSABLE, Node, read_text

_AFTER_FILES = 1000


@dataclass(frozen=True)
class Override:
    """A value, and the keys that lead to it."""

    path: tuple[str, ...]
    node: Node


def read_overrides(given: Iterable[str], folder: Path, faults: Faults) -> list[Override]:
    """Return the overrides ``key.path=value``, the values being YAML; what is none is noted.

    Relative paths in them are relative to ``folder``, as if they stood in the file.
    """
    found = []
    for number, text in enumerate(given):
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        origin = Origin(f"--set {shown}", folder, _AFTER_FILES + number, lined=False)
        name, equals, value = text.partition("=")
        path = tuple(part.strip() for part in name.split("."))
        if not equals or not all(path):
            faults.add(Place(origin), "An override is key.path=value, such as `method.epochs=5`.")
            continue
        found.append(Override(path, read_text(value, origin, faults, ".".join(path))))
    return found


def apply(overrides: Iterable[Override], root: Node, faults: Faults) -> None:
    """Put the values into the tree of the file, in place.

    Where exactly one of several keys may stand, such as ``forget.classes``, a new one replaces the file's.
    """
    for override in overrides:
        within = root
        for depth, key in enumerate(override.path):
            path = override.path[:depth]
            _open(within, path)
            if not isinstance(within.value, dict):
                if within.value is not UNUSABLE:
                    text = f"`{'.'.join(path)}` holds {within.found}: give it as a whole."
                    faults.add(override.node.place, text)
                break
            _make_room(within, path, key)
            if depth == len(override.path) - 1:
                within.value[key] = override.node
            else:
                within = within.value.setdefault(key, Node({}, override.node.place))


def _open(node: Node, path: tuple[str, ...]) -> None:
    """Turn what may be given short, or not at all, into a mapping."""
    if node.value is None or (kinds_at(path) and not isinstance(node.value, dict)):
        node.value = {}
    elif isinstance(node.value, str) and path in SHORT:
        node.value = {SHORT[path]: Node(node.value, node.place, node.word)}
    elif isinstance(node.value, str) and path[-1:] == ("rule",):
        node.value = {node.value: Node(None, node.place)}


def _make_room(node: Node, path: tuple[str, ...], key: str) -> None:
    """Take out of the file what cannot stand beside ``key``; what other overrides say stays."""
    kinds = kinds_at(path)
    if not kinds or key not in kinds or key in node.value:
        return
    kept = set(kinds[key])
    if "values" in kinds and ("classes" in node.value or key == "classes"):
        kept.discard("column")  # that of the classes is another one
    for other, value in list(node.value.items()):
        if value.place.origin.lined and other not in kept:
            del node.value[other]
