"""What a word of YAML means, where all YAML readers agree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST = 40

_UNCLEAR = (
    (re.compile(r"yes|no|on|off", re.IGNORECASE), "true or false"),
    (re.compile(r"[-+]?(0[0-9_]+|0o[0-7]+)"), "an octal number"),
    (re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+)"), "a number in another base"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number of base 60"),
    (re.compile(r"[-+]?[0-9.][0-9_.]*_[0-9_.]*([eE][-+]?[0-9]+)?"), "a number"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?"), "a date"),
    (re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?"), "a number"),
    (re.compile(r"=|<<"), "a command"),
)


@dataclass(frozen=True)
class Unclear:
    """A word that readers of YAML understand differently; ``taken_for``: what some take it for."""

    taken_for: str


def resolve(word: str) -> Any:
    """Return the meaning of a word without quotes: ``None``, bool, int, float, text, or `Unclear`.

    PyYAML reads ``no`` as false, ``0777`` as 511, ``1:30`` as 90 and ``1e-3`` as text, other readers do not. Here the
    last is the number that it looks like, the others are unclear.

    >>> resolve("1e-3"), resolve("cat"), resolve("7"), resolve("")
    (0.001, 'cat', 7, None)
    >>> resolve("no")
    Unclear(taken_for='true or false')
    """
    if _NULL.fullmatch(word):
        return None
    if _BOOL.fullmatch(word):
        return word.lower() == "true"
    number = _INT.fullmatch(word) or _FLOAT.fullmatch(word)
    if number and len(word) > _LONGEST:
        return Unclear("a very long number")
    if number:
        return int(word) if _INT.fullmatch(word) else float(word)
    if _SPECIAL.fullmatch(word):
        return float(word.lower().replace(".", ""))
    return next((Unclear(meaning) for pattern, meaning in _UNCLEAR if pattern.fullmatch(word)), word)
