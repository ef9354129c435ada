"""Values of a request, as the types of what they become say they must be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from amnesty.requests.faults import Faults
from amnesty.requests.yaml_file import UNUSABLE, Node
from amnesty.training.settings import Range


class _Misfit:
    """Stands for a value of another type or range than wanted."""


MISFIT: Final = _Misfit()

_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


def value_of(node: Node, hint: Any, name: str, faults: Faults) -> Any:
    """Return the value as ``hint`` wants it, or `MISFIT` after its fault was noted.

    ``hint`` is bool, int, float, str, a ``Literal``, one of these with a `Range`, a sequence of these (which becomes
    a tuple), or a union; ``float`` takes whole numbers too, but nothing that is not finite.
    """
    if node.value is UNUSABLE:
        return MISFIT
    of_item = _item(hint)
    if isinstance(node.value, list) and of_item is not None and node.value:
        items = [value_of(item, of_item, f"{name}[{i}]", faults) for i, item in enumerate(node.value)]
        return MISFIT if any(item is MISFIT for item in items) else tuple(items)
    value = _fitted(node, hint)
    if value is MISFIT:
        faults.add(node.place, f"`{name}` must be {words(hint)}, found {node.found}.{_hint(node, hint)}")
    return value


def nearest(word: object, known: Iterable[str]) -> str:
    """Return a question that suggests the known word next to ``word``; empty where none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def words(hint: Any) -> str:
    """Say what a value must be.

    >>> words(Literal["sgd", "adam"] | None), words(tuple[int, ...])
    ('one of sgd, adam, or null', 'a list of whole numbers')
    """
    options = get_args(hint)
    if _is_union(hint):
        said = [words(option) for option in options if option is not NoneType]
        return " or ".join(said) + (", or null" if NoneType in options else "")
    if get_origin(hint) is Annotated:
        return next((one.words for one in hint.__metadata__ if isinstance(one, Range)), words(options[0]))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, options))}"
    of_item = _item(hint)
    if of_item is not None:
        what = {int: "whole numbers", float: "finite numbers", str: "names"}.get(of_item)
        return f"a list of {what}" if what else f"a list, each {words(of_item)}"
    return _WORDS.get(hint, "something else")


def _fitted(node: Node, hint: Any) -> Any:
    value, options = node.value, get_args(hint)
    if _is_union(hint):
        fitted = (_fitted(node, option) for option in options)
        return next((one for one in fitted if one is not MISFIT), MISFIT)
    if get_origin(hint) is Annotated:
        value = _fitted(node, options[0])
        right = value is not MISFIT and all(one.holds(value) for one in hint.__metadata__ if isinstance(one, Range))
    elif get_origin(hint) is Literal:
        right = any(value == option and type(value) is type(option) for option in options)
    elif hint is float:
        right = type(value) in (int, float) and math.isfinite(value)
        value = float(value) if right else value
    else:
        right = type(value) is hint and value != ""
    return value if right else MISFIT


def _hint(node: Node, hint: Any) -> str:
    options = get_args(hint) if _is_union(hint) else (hint,)
    known = [o for one in options if get_origin(one) is Literal for o in get_args(one)]
    if isinstance(node.value, str):
        return nearest(node.value, [o for o in known if isinstance(o, str)])
    text = hint is str or str in options
    return " Put it in quotes." if text and isinstance(node.value, bool | int | float) else ""


def _item(hint: Any) -> Any:
    """Return the type of the items where ``hint`` is, or allows, a sequence."""
    if _is_union(hint):
        return next((found for option in get_args(hint) if (found := _item(option)) is not None), None)
    origin = get_origin(hint)
    listed = isinstance(origin, type) and issubclass(origin, Sequence)
    return get_args(hint)[0] if listed else None


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
