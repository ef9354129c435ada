"""YAML read with lines, and without what a request has no use for: tags, aliases, more than one document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from amnesty.requests.faults import Faults, Origin, Place
from amnesty.requests.scalars import Unclear, resolve

LARGEST = 2**20
DEEPEST = 20

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Unusable:
    """Stands for a value whose fault is known already."""

    def __repr__(self) -> str:
        return "UNUSABLE"


UNUSABLE = _Unusable()


@dataclass(eq=False)
class Node:
    """A value of a YAML file, with its place.

    Attributes:
        value: ``None``, bool, int, float or text; a list of nodes; nodes by key; or `UNUSABLE`.
        place: line of the value, or of its key where it has one.
        word: a single value as it is written, quotes apart.
    """

    value: Any
    place: Place
    word: str = ""

    @property
    def found(self) -> str:
        """The value in words, for messages."""
        if isinstance(self.value, dict):
            return "a mapping" if self.value else "an empty mapping"
        if isinstance(self.value, list):
            return "a list" if self.value else "an empty list"
        if self.value is None:
            return "nothing"
        text = repr(self.value) if isinstance(self.value, str) else self.word
        return text if len(text) <= 80 else f"{text[:77]}..."


class _Stop(Exception):  # noqa: N818
    """Reading on makes no sense."""


def read_file(path: Path, origin: Origin, faults: Faults) -> Node:
    """Return the mapping that a file holds; where it holds none the fault is noted.

    Raises:
        OSError: the file cannot be read.
    """
    start = Place(origin)
    if not path.is_file():
        faults.add(start, "There is no such file." if not path.exists() else "This is not a file.")
        return Node(UNUSABLE, start)
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        faults.add(start, f"A request may have {LARGEST:,} bytes at most; this file has more. Name files instead.")
        return Node(UNUSABLE, start)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        faults.add(Place(origin, line), f"A request must be UTF-8 text: {error.reason} at byte {error.start}.")
        return Node(UNUSABLE, start)
    node = read_text(text, origin, faults)
    if node.value is None:
        faults.add(start, "The file is empty. `amnesty unlearn --example` prints a request to begin with.")
    elif not isinstance(node.value, dict | _Unusable):
        faults.add(node.place, f"A request must be a mapping such as `model: ...`, found {node.found}.")
    return node if isinstance(node.value, dict) else Node(UNUSABLE, start)


def read_text(text: str, origin: Origin, faults: Faults, name: str = "") -> Node:
    """Return the one document of ``text``; faults are noted, those of words under ``name``."""
    strange = _CONTROL.search(text)
    if strange:
        line = text.count("\n", 0, strange.start()) + 1
        faults.add(Place(origin, line), f"The character {strange[0]!a} is not allowed in YAML.")
        return Node(UNUSABLE, Place(origin))
    builder = _Builder(origin, faults, name)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, twenty times as fast
    try:
        for event in yaml.parse(text, loader):
            builder.take(event)
    except _Stop:
        return Node(UNUSABLE, Place(origin))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        faults.add(Place(origin, mark.line + 1 if mark else 1), f"This is not YAML: {problem}.")
        return Node(UNUSABLE, Place(origin))
    return builder.root


@dataclass
class _Open:
    """A mapping or a list whose end has not come yet, and the key whose value comes next."""

    node: Node
    key: Node | None = None
    refused: bool = False


class _Builder:
    """Makes nodes of the events of the parser."""

    def __init__(self, origin: Origin, faults: Faults, name: str) -> None:
        self.root = Node(None, Place(origin))
        self._origin, self._faults, self._name = origin, faults, name
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        place = Place(self._origin, event.start_mark.line + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._faults.add(place, "A request is one document: remove the `---` and what follows it.")
                raise _Stop
        elif isinstance(event, yaml.AliasEvent):
            self._faults.add(place, f"The alias *{event.anchor} is not allowed: write the value itself.")
            self._add(Node(UNUSABLE, place))
        elif isinstance(event, yaml.NodeEvent):
            refused = self._refuses_extras(event, place)
            if isinstance(event, yaml.ScalarEvent):
                self._add(Node(UNUSABLE, place) if refused else self._scalar(event, place))
            else:
                node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], place)
                self._begin(node, refused)
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            self._add(Node(UNUSABLE, ended.node.place) if ended.refused else ended.node)

    def _begin(self, node: Node, refused: bool) -> None:
        self._open.append(_Open(node, refused=refused))
        if len(self._open) > DEEPEST:
            self._faults.add(node.place, f"Values may be nested {DEEPEST} deep at most.")
            raise _Stop

    def _refuses_extras(self, event: Any, place: Place) -> bool:
        if event.anchor is not None:
            self._faults.add(place, f"The anchor &{event.anchor} is not allowed: write values where they are needed.")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._faults.add(place, f"The tag {tag} is not allowed: a request holds plain values only.")
        return event.anchor is not None or event.tag is not None

    def _scalar(self, event: Any, place: Place) -> Node:
        word = event.value
        value = resolve(word) if event.implicit[0] else word
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            self._faults.add(place, f"{self._here()} has half a character, {word!a}, which no file can hold.")
            value = UNUSABLE
        elif isinstance(value, Unclear):
            self._faults.add(
                place,
                f"{self._here()} is {word}, which some YAML readers take for {value.taken_for}: write '{word}' in "
                f"quotes if it is text, or write the value out.",
            )
            value = UNUSABLE
        return Node(value, place, word)

    def _here(self) -> str:
        """Return the name of the value that comes next."""
        name = self._name
        for one in self._open:
            if isinstance(one.node.value, list):
                name += f"[{len(one.node.value)}]"
            elif one.key is not None:
                name += f".{one.key.word}" if name else one.key.word
        of_key = bool(self._open) and isinstance(self._open[-1].node.value, dict) and self._open[-1].key is None
        return f"A key{f' of `{name}`' if name else ''}" if of_key else f"`{name}`" if name else "The value"

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        within = self._open[-1]
        if isinstance(within.node.value, list):
            within.node.value.append(node)
        elif within.key is None:
            within.key = node
        else:
            self._pair(within.node.value, within.key, node)
            within.key = None

    def _pair(self, mapping: dict[str, Node], key: Node, value: Node) -> None:
        if key.value is UNUSABLE:
            return
        if not isinstance(key.value, str) or not key.value:
            self._faults.add(key.place, f"A key must be text, found {key.found}: put it in quotes.")
        elif key.value in mapping:
            first = mapping[key.value].place.line
            self._faults.add(key.place, f"{self._here()} is given twice, first in line {first}.")
        else:
            value.place = key.place
            mapping[key.value] = value


class _Dumper(yaml.SafeDumper):
    """Writes what `read_text` reads: no aliases, and quotes around all text that is not clearly text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(resolve(text), str) else "'"
    if len(text.splitlines()) > 1 or text != text.strip():  # in which other styles may fold
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(document: Mapping[str, Any]) -> str:
    r"""Return plain values as YAML that is read back as the same values.

    >>> dump({"classes": ["cat", "no", "1e-3", 3], "weights": None})
    "classes:\n- cat\n- 'no'\n- '1e-3'\n- 3\nweights: null\n"
    """
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
