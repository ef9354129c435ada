"""What to forget, and what was never trained on, as a request says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amnesty.data import Classes, Column, Fraction, IndexFile, Indices, Selector
from amnesty.errors import InvalidInputError
from amnesty.requests.fields import Section
from amnesty.requests.vocabulary import FORGET, SELECTOR
from amnesty.training.settings import Between, CountOrZero

ONE = "forget"
"""Name of the forget set where there is only one."""

_PARTS = ("forget", "retain", "holdout", "validation", "nonmembers")
_EXAMPLE = "forget: {classes: [cat]}"


def read_forget(section: Section) -> dict[str, Selector]:
    """Return the forget sets by name."""
    if section.choose(FORGET, _EXAMPLE) is None:
        return {}
    if "sets" not in section:
        return {ONE: selector} if (selector := _selector(section)) else {}
    sets = section.section("sets")
    if sets.usable and not list(sets):
        section.add("sets", "must name at least one forget set: `{user-7: {column: user_id, values: [7]}}`.")
    for name in sets:
        check_set_name(sets, name, only=len(list(sets)) == 1)
    found = {name: read_selector(sets.section(name)) for name in sets}
    return {name: selector for name, selector in found.items() if selector}


def check_set_name(sets: Section, name: str, only: bool) -> None:
    """Note a name that no forget set can have; ``only``: it is the only one."""
    if name in _PARTS and not (only and name == ONE):
        sets.add(name, f"has the name of a part of the data: {', '.join(_PARTS)} are taken.")
    elif not is_name(name):
        sets.add(name, f"must have a name {NAME_RULE}.")


NAME_RULE = "made of letters, digits, dots, dashes and underscores, a letter or a digit first, 100 at most"


def is_name(text: str) -> bool:
    """Say whether a text can name a request, a forget set or a folder, whatever the file system.

    >>> is_name("user-7"), is_name(".."), is_name("a/b")
    (True, False, False)
    """
    rest = text.replace(".", "").replace("-", "").replace("_", "")
    return len(text) <= 100 and text[:1].isalnum() and rest.isalnum()


def read_selector(section: Section) -> Selector | None:
    """Return the selector of a section; ``None`` after its faults were noted."""
    return None if section.choose(SELECTOR, "{classes: [cat]}") is None else _selector(section)


def _selector(section: Section) -> Selector | None:
    before = len(section.faults)
    found = _chosen(section)
    return found if len(section.faults) == before else None


def _chosen(section: Section) -> Selector | None:
    if "classes" in section:
        classes = section.unique("classes", section.take("classes", tuple[str | CountOrZero, ...], ()))
        return Classes(classes, section.take("column", str, "label"))
    if "indices" in section:
        return Indices(section.unique("indices", section.take("indices", tuple[CountOrZero, ...], ())))
    if "index_file" in section:
        path = section.path("index_file")
        return IndexFile(path) if path else None
    if "fraction" in section:
        return Fraction(section.take("fraction", Between, 0.5), section.take("seed", CountOrZero, 0))
    return _column(section)


def _column(section: Section) -> Column | None:
    if not section.require("column", "column: user_id"):
        return None
    column = section.take("column", str, "")
    if "values_file" in section:
        path = section.path("values_file")
        return Column(column, path) if path else None
    values = section.take("values", tuple[str | bool | int | float, ...], ())
    return Column(column, values)


def plain_forget(forget: Mapping[str, Selector]) -> dict[str, Any]:
    """Return the forget sets as a request writes them."""
    if list(forget) == [ONE]:
        return plain_selector(forget[ONE])
    return {"sets": {name: plain_selector(selector) for name, selector in forget.items()}}


def plain_selector(selector: Selector) -> dict[str, Any]:
    """Return a selector as a request writes it.

    Raises:
        InvalidInputError: it is none of those that a request can have.
    """
    if isinstance(selector, Classes):
        return {"classes": list(selector.classes), "column": selector.column}
    if isinstance(selector, Indices):
        return {"indices": [int(i) for i in selector.indices]}
    if isinstance(selector, IndexFile):
        return {"index_file": str(selector.path)}
    if isinstance(selector, Fraction):
        return {"fraction": selector.fraction, "seed": selector.seed}
    if isinstance(selector, Column):
        if isinstance(selector.values, str) or hasattr(selector.values, "parts"):
            return {"column": selector.column, "values_file": str(selector.values)}
        return {"column": selector.column, "values": list(selector.values)}
    raise InvalidInputError(f"A request cannot say {selector!r}.")
