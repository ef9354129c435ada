"""Ranges of settings, told by their types, so that all faults of a recipe or a method are named at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Range:
    """What a number may be: in words, and as a test."""

    words: str
    right: Callable[[Any], bool]

    def holds(self, value: Any) -> bool:
        """Say whether ``value`` is a number, not a bool, in the range."""
        return not isinstance(value, bool) and isinstance(value, Real) and self.right(value)


def _whole(least: int) -> Range:
    return Range(f"a whole number of at least {least}", lambda x: isinstance(x, int) and x >= least)


Positive = Annotated[float, Range("a positive number", lambda x: 0 < x < math.inf)]
NotNegative = Annotated[float, Range("a number of at least 0", lambda x: 0 <= x < math.inf)]
Count = Annotated[int, _whole(1)]
CountOrZero = Annotated[int, _whole(0)]
Between = Annotated[float, Range("in (0, 1)", lambda x: 0 < x < 1)]
Part = Annotated[float, Range("in (0, 1]", lambda x: 0 < x <= 1)]
Share = Annotated[float, Range("in [0, 1]", lambda x: 0 <= x <= 1)]


def faults(settings: Any) -> list[str]:
    """Return what is wrong with the settings of a dataclass, by the names of its fields.

    Looked at are types with a `Range`, `Literal`, bool, functions, and unions of these; ``None`` is right where the
    type says so.

    >>> @dataclasses.dataclass
    ... class Mine:
    ...     lr: Positive = 0.1
    ...     order: Literal["first", "last"] | None = None
    >>> faults(Mine(lr=0, order="next"))
    ['`lr` must be a positive number, found 0', "`order` must be one of first, last, found 'next'"]
    """
    hints = get_type_hints(type(settings), include_extras=True)
    found = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        wrong = _wrong(value, hints[field.name])
        if wrong:
            found.append(f"`{field.name}` must be {wrong}, found {value!r}")
    return found


def _wrong(value: Any, hint: Any) -> str | None:
    """Return what ``value`` must be instead, ``None`` if it is right or the type says too little."""
    kind, options = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        if value is None and NoneType in options:
            return None
        each = [_wrong(value, option) for option in options if option is not NoneType]
        return None if None in each else " or ".join(filter(None, each))
    if kind is Annotated:
        ranges = [one for one in hint.__metadata__ if isinstance(one, Range)]
        return next((one.words for one in ranges if not one.holds(value)), None)
    if kind is Literal:
        return None if value in options else f"one of {', '.join(map(str, options))}"
    wanted: type = bool if hint is bool else kind if isinstance(kind, type) else object  # a Callable, a Sequence
    if isinstance(value, wanted) and not (wanted is not object and isinstance(value, str)):
        return None
    return {"bool": "True or False", "Callable": "a function"}.get(wanted.__name__, f"a {wanted.__name__.lower()}")
