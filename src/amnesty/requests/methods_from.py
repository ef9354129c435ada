"""A method with its settings, as a request says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from amnesty.bargaining import Nash, PublishedNash, Rule, Sum
from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.methods import METHODS, Method, method_named
from amnesty.requests.faults import Faults
from amnesty.requests.fields import Section
from amnesty.requests.values import nearest
from amnesty.requests.yaml_file import UNUSABLE, Node
from amnesty.training import Recipe

RULES: Mapping[str, type] = {"nash": Nash, "sum": Sum, "published_nash": PublishedNash}
"""The rules that a request can name; their settings are the fields of the class."""

_DEFAULT = "munba"
_OWN = ("name", "preset", "tuned")


def read_method(node: Node, name: str, faults: Faults) -> tuple[Method, bool] | None:
    """Return the method, and whether the request gives any setting; ``None`` after its faults were noted."""
    if isinstance(node.value, str):
        node = Node({"name": node}, node.place)
    section = Section(node, name, faults)
    if not section.usable:
        return None
    kind = _kind(section)
    if kind is None:
        return None
    before = len(faults)
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    section.close({*fields, *_OWN})
    settings = {key: _setting(section, key, hints[key]) for key in section if key in fields}
    preset = _preset(section, kind)
    tuned = section.take("tuned", bool, bool(settings) or preset is not None)
    needed = [f.name for f in fields.values() if _is_required(f) and f.name not in settings]
    for key in needed:
        section.require(key, f"{key}: finetune")
    if len(faults) > before:
        return None
    try:
        return (kind(**settings) if preset is None else dataclasses.replace(preset, **settings)), tuned
    except InvalidInputError as error:
        _add_at(section, error)
        return None


def _kind(section: Section) -> type[Method] | None:
    if section["name"].value is UNUSABLE:
        return None
    given = section.take("name", str, "" if "name" in section else _DEFAULT)
    try:
        return method_named(given) if given else None
    except UnknownNameError:
        shorts = {method.about.short.lower() for method in METHODS.values()}
        near = nearest(given.lower(), {*METHODS, *shorts})
        section.add("name", f"must be a method, found {given!r}.{near} Known: {', '.join(sorted(METHODS))}.")
        return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _preset(section: Section, kind: type[Method]) -> Any:
    """Return the method with the settings of a named preset, a class method that needs no arguments."""
    if "preset" not in section:
        return None
    known = [key for key, value in vars(kind).items() if isinstance(value, classmethod) and key[0] != "_"]
    wanted = section.take("preset", str)
    if wanted in known:
        return getattr(kind, wanted)()
    if wanted is not None:
        these = f"Known: {', '.join(known)}" if known else f"{kind.__name__} has none"
        section.add(
            "preset", f"must be a preset of {kind.__name__}, found {wanted!r}.{nearest(wanted, known)} {these}."
        )
    return None


def _setting(section: Section, key: str, hint: Any) -> Any:
    node, name = section[key], section.named(key)
    kinds = get_args(hint) if hint != Rule else (hint,)
    if node.value is None and type(None) in kinds:
        return None
    if Rule in kinds:
        return read_rule(node, name, section.faults)
    if hint is Method:
        found = read_method(node, name, section.faults)
        return found[0] if found else None
    if hint is Recipe:
        return _built(Section(node, name, section.faults), Recipe)
    if not _is_value(hint):
        section.add(key, "is a function, which a request cannot give: use `amnesty.unlearn` from Python.")
        return None
    return section.take(key, hint)


def _is_value(hint: Any) -> bool:
    return not any(get_origin(one) is Callable for one in (hint, *get_args(hint)))


def read_rule(node: Node, name: str, faults: Faults) -> Rule | None:
    """Return a rule given by name, by ``{name: {settings}}``, or by ``{sum: [weights]}``."""
    if node.value is UNUSABLE:
        return None
    if isinstance(node.value, str):
        node = Node({node.value: Node(None, node.place)}, node.place)
    if not isinstance(node.value, dict) or len(node.value) != 1:
        faults.add(
            node.place, f"`{name}` must be a rule: `nash`, or `{{nash: {{length: fading}}}}`, found {node.found}."
        )
        return None
    ((kind, settings),) = node.value.items()
    if kind not in RULES:
        known = ", ".join(RULES)
        faults.add(node.place, f"`{name}` must be a rule, found {kind!r}.{nearest(kind, RULES)} Known: {known}.")
        return None
    if kind == "sum" and isinstance(settings.value, list):
        settings = Node({"weights": settings}, settings.place)
    rule: Rule | None = _built(Section(settings, f"{name}.{kind}", faults), RULES[kind])
    return rule


def _built(section: Section, kind: Any) -> Any:
    """Return the dataclass ``kind`` with the settings of a section; ``None`` after its faults were noted."""
    before = len(section.faults)
    hints = get_type_hints(kind, include_extras=True)
    section.close(hints)
    settings = {key: section.take(key, hints[key]) for key in section if key in hints}
    if len(section.faults) > before or not section.usable:
        return None
    try:
        return kind(**settings)
    except InvalidInputError as error:
        _add_at(section, error)
        return None


def _add_at(section: Section, error: InvalidInputError) -> None:
    """Note what a class refused, at the setting that it names first."""
    named = [key for key in section if f"`{key}`" in str(error)]
    place = section[named[0]].place if named else section.node.place
    section.faults.add(place, f"`{section.name}`: {error}")


def plain_method(method: Method, tuned: bool) -> dict[str, Any]:
    """Return a method as a request writes it, with all settings.

    Raises:
        InvalidInputError: a setting is a function, which a request cannot give.
    """
    name = next((key for key, kind in METHODS.items() if kind is type(method)), None)
    if name is None:
        raise InvalidInputError(f"A request cannot name the method {type(method).__name__}, which is in no table.")
    return {"name": name, "tuned": tuned, **_plain_fields(method)}


def _plain_fields(settings: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(settings, field.name), field.name) for field in dataclasses.fields(settings)}


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Method):
        return plain_method(value, tuned=True)
    if isinstance(value, Recipe):
        return _plain_fields(value)
    rule = next((key for key, kind in RULES.items() if type(value) is kind), None)
    if rule is not None:
        return {rule: _plain_fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(one, name) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidInputError(f"A request cannot give `{name}`, which is {value!r}.")


def players_wanted(method: Method) -> tuple[str, int] | None:
    """Return the setting that has a number for each player, and how many; ``None`` where none has."""
    rule = getattr(method, "rule", None)
    if isinstance(rule, PublishedNash):
        return "rule", 2
    numbers = rule.weights if isinstance(rule, Sum) else rule.power if isinstance(rule, Nash) else None
    return None if numbers is None else ("rule", len(numbers))
